"""Configs: every way to name one, and every way to get one wrong."""

import math
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stii_jax import config as configs
from stii_jax.config import (
    ConfigError,
    default_config,
    files,
    flatten,
    load_config,
    resolve,
    split_overrides,
    validation,
)


@pytest.fixture
def write(tmp_path):
    """Write a config file with a body for `get_config`, and return its path."""

    def write(body: str, arguments: str = "") -> str:
        path = tmp_path / "mine.py"
        path.write_text(
            "from stii_jax.config import default_config\n\n"
            f"def get_config({arguments}):\n"
            "    config = default_config()\n"
            f"    {body}\n"
            "    return config\n"
        )
        return str(path)

    return write


@pytest.mark.parametrize("name", ["default", "configs/default.py"])
def test_resolves_shipped_configs_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = configs.config_folder() / "default.py"
    assert resolve(name) == str(path)
    assert resolve(f"{name}:provide") == f"{path}:provide"
    assert load_config(f"{name}:provide").model.schedule == "provide"


def test_a_file_runs_as_it_is_now(tmp_path, monkeypatch):
    """A compiled copy would be used for a file changed to the same length within a second."""
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    path = tmp_path / "mine.py"
    for number in (1, 2):
        path.write_text(f"number = {number}\n")
        os.utime(path, (0, 0))
        assert configs.run_file(path).number == number
    assert list(tmp_path.iterdir()) == [path]


def test_installed_configs_come_from_the_package(tmp_path, monkeypatch):
    (tmp_path / "stii_jax" / "configs").mkdir(parents=True)
    (tmp_path / "stii_jax" / "configs" / "default.py").touch()
    monkeypatch.setattr(files, "__file__", str(tmp_path / "stii_jax" / "config" / "files.py"))
    assert configs.config_folder() == tmp_path / "stii_jax" / "configs"
    (tmp_path / "stii_jax" / "configs" / "default.py").unlink()
    with pytest.raises(ConfigError, match="reinstall"):
        configs.config_folder()


def test_own_file_takes_an_argument(write):
    path = write("config.model.num_slots = int(argument)", arguments="argument='3'")
    assert load_config(path).model.num_slots == 3
    assert load_config(f"{path}:7").model.num_slots == 7


def test_local_config_folder_goes_before_the_shipped_one(write, monkeypatch):
    path = Path(write("config.model.num_slots = 2"))
    (path.parent / "configs").mkdir()
    path.rename(path.parent / "configs" / "default.py")
    monkeypatch.chdir(path.parent)
    assert load_config("configs/default.py").model.num_slots == 2
    assert load_config("default").model.num_slots == 5


def test_unknown_name_lists_known_ones():
    with pytest.raises(ConfigError, match=r"no config 'defualt'; nearest: default .*available: .*default"):
        load_config("defualt")


@pytest.mark.parametrize("name", configs.config_names())
def test_every_shipped_config_loads_and_survives_json(name, tmp_path):
    config = load_config(name)
    path = tmp_path / "saved.json"
    path.write_text(configs.to_json(config))
    assert flatten(configs.from_json(path.read_text())) == flatten(config)
    loaded = load_config(str(path))
    assert flatten(loaded) == flatten(config)
    assert all(type(value) is type(flatten(config)[key]) for key, value in flatten(loaded).items())


def test_every_rule_names_a_setting():
    ruled = {*validation.CHOICES, *validation.MAY_BE_ZERO, *validation.ABOVE_ZERO}
    assert ruled <= set(flatten(default_config()))


def test_a_section_with_slots_makes_a_system_of_its_name():
    config = default_config()
    assert set(validation.own_systems(flatten(config))) == {"rnem", "ddpae"}
    with config.unlocked():
        config.palette = {"num_slots": 2}
    config.system = "palette"
    validation.validate(config)
    config.palette.num_slots = 256
    with pytest.raises(ConfigError, match=r"config\.palette\.num_slots is 256, expected at most 255"):
        validation.validate(config)
    config.system = "palete"
    with pytest.raises(ConfigError, match=r"config\.system is 'palete', expected one of 'stii', 'iodine'.*'palette'"):
        validation.validate(config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "video_folder:smal",
            "no variant 'smal' of video_folder; nearest: small or default (available: default, small)",
        ),
        ("tabletop:mni", "no variant 'mni' of tabletop; nearest: mini or pyramid (available: default, mini, pyramid)"),
        ("clevrer:x", "no variant 'x' of clevrer; nearest: "),
        ("default:foo", "no variant 'foo' of default; nearest: provide or paper (available: paper, provide)"),
        ("grand_central:static", "no variant 'static' of grand_central; nearest: static_camera or grand_central"),
        ("small:rnm", "no variant 'rnm' of small; nearest: rnem or "),
        ("balls:colour", "no variant 'colour' of balls; nearest: color or "),
        ("balls:binary,varied", "no variant 'binary,varied' of balls; nearest: "),
        ("balls:color,rnm", "no variant 'color,rnm' of balls; nearest: color,rnem or "),
        ("quickstart:mini", "quickstart has no variants, given 'mini': write --config quickstart"),
        ("video_foldr:small", "no config 'video_foldr:small'; nearest: video_folder or "),
    ],
)
def test_an_argument_that_a_config_does_not_have(name, message):
    """The error names the closest config and shows no line of code, because the user has not written any."""
    with pytest.raises(ConfigError) as caught:
        load_config(name)
    assert message in str(caught.value) and not re.search(r"line \d|ValueError|\n", str(caught.value))


@pytest.mark.parametrize(
    ("argument", "variant", "system"),
    [
        ("color,varied", "color4", "stii"),
        ("binary,provide", "binary4", "stii"),
        ("binary,ddpae", "binary4", "ddpae"),
        ("mixture,iodine", "color4", "iodine"),
        ("white,rnem", "binary4", "rnem"),
        ("white,ddpae", "binary4", "ddpae"),
    ],
)
def test_every_preset_of_balls_is_known(argument, variant, system):
    config = load_config(f"balls:{argument}")
    assert (config.data.variant, config.system) == (variant, system)


@pytest.mark.parametrize("argument", ["white", "mixture,ddpae", "binary,varied", "white,iodine"])
def test_presets_that_do_not_go_together_are_refused(argument):
    with pytest.raises(ConfigError, match=f"no variant '{argument}' of balls; nearest: "):
        load_config(f"balls:{argument}")


def test_json_gives_tuples_and_fills_in_defaults(tmp_path):
    path = tmp_path / "part.json"
    path.write_text('{"curriculum": {"stages": [[6, 16, 100]]}, "optim": {"clip_norm": 1}}')
    config = load_config(str(path))
    assert config.curriculum.stages == ((6, 16, 100),)
    assert type(config.optim.clip_norm) is float
    assert config.batch_size == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "JSON object"),
        ('{"model": {"num_slot": 3}}', "no setting config.model.num_slot; nearest: model.num_slots"),
        ('{"model": 3}', "is a section"),
        ('{"batch_size": true}', "config.batch_size is True, expected an integer"),
    ],
)
def test_bad_json_is_one_clear_line(text, message, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(str(path))
    assert "bad.json" in str(caught.value)
    with pytest.raises(ConfigError, match="takes no argument"):
        load_config(f"{path}:color")


def test_overrides_take_the_setting_s_type():
    config = load_config(
        "default",
        [
            "model.num_slots=4",
            "model.num_slots=6",  # the last one counts
            "optim.learning_rate=1",
            "model.remat=false",
            "model.leave_one_out=True",
            "data.variant=a=b",
            "curriculum.stages=((6,16,100),)",
            "eval.lengths=[3, 4]",
        ],
    )
    assert config.model.num_slots == 6
    assert type(config.optim.learning_rate) is float
    assert config.model.remat is False and config.model.leave_one_out is True
    assert config.data.variant == "a=b"
    assert config.curriculum.stages == ((6, 16, 100),)
    assert config.eval.lengths == (3, 4)


def test_dataset_options_are_free_form():
    overrides = ["data.options.image_size=32", "data.options.colour=red", "data.options.masks=true"]
    options = load_config("default", overrides).data.options
    assert options.to_dict() == {"image_size": 32, "colour": "red", "masks": True}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_slot=3", r"no setting config.model.num_slot; nearest: model.num_slots"),
        ("num_slots=3", r"no setting config.num_slots; nearest: .*[.]num_slots"),
        ("data.option.folder=/v", r"no setting config.data.option.folder; nearest: data.options.folder$"),
        ("eval.option.image_size=8", r"no setting config.eval.option.image_size; nearest: eval.options.image_size$"),
        ("data.folder=/v", r"nearest: data.options.folder, if it is an option of the dataset$"),
        ("data.num_thread=2", r"nearest: data.num_threads or "),
        ("data.options.a.b=3", r"no setting config.data.options.a.b"),
        ("model.num_slots=True", r"config.model.num_slots is 'True', expected an integer"),
        ("model.num_slots=1.5", r"config.model.num_slots is '1.5', expected an integer"),
        ("model.sigma=big", r"config.model.sigma is 'big', expected a number"),
        ("model.remat=1", r"config.model.remat is 1, expected true or false"),
        ("model.remat=yes", r"config.model.remat is 'yes', expected true or false"),
        ("eval.lengths=10", r"config.eval.lengths is 10, expected a tuple such as \(10, 20, 30, 40\): change"),
        ("eval.lengths={[]: 1}", r"config.eval.lengths is .*, expected a tuple"),
        ("model=3", r"config.model is a section"),
        ("data.options=3", r"config.data.options is a section"),
        ("batch_size", r"override 'batch_size' has no value"),
    ],
)
def test_bad_override_names_the_key(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config("default", [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_slots=0", "at least 1"),
        ("batch_size=-1", "at least 1"),
        ("train.log_every=0", "at least 1"),
        ("seed=-1", "at least 0"),
        ("loss.kl=-0.1", "at least 0"),
        ("loss.kl=inf", "at least 0"),
        ("model.sigma=0", "more than 0"),
        ("model.sigma=nan", "more than 0"),
        ("loss.observed_fraction=0", "more than 0 and at most 1"),
        ("loss.observed_fraction=1.5", "more than 0 and at most 1"),
        ("model.cell=mdd", "one of 'md', 'stable'"),
        ("eval.schedule=papers", "one of '', 'triangular', 'paper', 'provide', 'constant'"),
        ("curriculum.stages=((6,16),)", "num_frames, batch_size, num_steps"),
        ("curriculum.stages=(6,16,100)", "num_frames, batch_size, num_steps"),
        ("curriculum.stages=((6,16,0),)", "all at least 1"),
        ("eval.lengths=()", "increasing"),
        ("eval.lengths=(10,10)", "increasing"),
        ("eval.lengths=(10,True)", "increasing"),
    ],
)
def test_bad_value_says_what_is_expected(override, message):
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=message) as caught:
        load_config("default", [override])
    assert f"change --config.{key}" in str(caught.value)


@pytest.mark.parametrize("override", ["eval.schedule=constant", "eval.first_noise=mean"])
@pytest.mark.parametrize("name", ["balls:color,iodine", "balls:binary,rnem"])
def test_systems_without_a_grid_have_no_schedule_to_evaluate_with(name, override):
    key, _, value = override.partition("=")
    with pytest.raises(ConfigError, match=f"config.{key} is '{value}', expected '' with config.system="):
        load_config(name, [override])
    assert load_config("balls:color", [override])


@pytest.mark.parametrize(
    ("name", "system"),
    [("balls:binary,rnem", "rnem"), ("balls:color,iodine", "seq_iodine"), ("balls:binary,ddpae", "ddpae")],
)
def test_systems_without_refinements_have_no_number_of_them(name, system):
    if system in ("rnem", "ddpae"):
        with pytest.raises(ConfigError, match=f"config.eval.segmentation .*, expected 'masks' with {system}"):
            load_config(name, ["eval.segmentation=responsibilities"])
    for key, expected in (
        ("num_refinements", 0),
        ("restarts", 1),
        ("reseeds", 0),
        ("reseed_every", 1),
        ("slot_cost", 0),
    ):
        message = rf"config.eval.{key} is 6(\.0)?, expected {expected} with {system}"
        with pytest.raises(ConfigError, match=message):
            load_config(name, [f"eval.{key}=6", f"eval.system={system}"])
    assert load_config("balls:color,iodine", ["eval.num_refinements=6"])


def test_reseeds_every_few_frames_need_reseeds():
    with pytest.raises(ConfigError, match=r"config.eval.reseed_every is 4, expected 1 with config.eval.reseeds=0"):
        load_config("balls:color", ["eval.reseed_every=4"])
    assert load_config("balls:color", ["eval.reseed_every=4", "eval.reseeds=1"]).eval.reseed_every == 4


def test_error_in_the_config_s_code_is_one_line_with_its_place(write):
    with pytest.raises(ConfigError, match=r"mine.py:foo', line 5: ValueError: invalid literal"):
        load_config(write("config.model.num_slots = int(argument)", arguments="argument='3'") + ":foo")
    with pytest.raises(ConfigError, match=r"mine.py', line 5: .*Did you mean \"num_slots\"") as caught:
        load_config(write("config.model.num_slot = 3"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"config.model.num_slots is True, expected an integer"):
        load_config(write("config.model.num_slots = True"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "defines no get_config"),
        ("def get_config():\n    return 3", "returned int, expected ConfigDict"),
        ("import not_a_module", "ModuleNotFoundError"),
    ],
)
def test_broken_config_file_is_one_clear_line(code, message, tmp_path):
    (tmp_path / "broken.py").write_text(code)
    with pytest.raises(ConfigError, match=message):
        load_config(str(tmp_path / "broken.py"))


def test_split_overrides_takes_both_forms_and_leaves_the_rest():
    line = ["--config", "default", "--config.a.b", "-3", "--workdir=x", "-config.c=1", "--config.d=e=f"]
    overrides, others = split_overrides(line)
    assert overrides == ["a.b=-3", "c=1", "d=e=f"]
    assert others == ["--config", "default", "--workdir=x"]


@pytest.mark.parametrize("line", [["--config.seed"], ["--config.seed", "--workdir"]])
def test_split_overrides_misses_a_value(line):
    with pytest.raises(ConfigError, match=r"--config\.seed has no value"):
        split_overrides(line)


def test_differences_names_both_values():
    saved, given = default_config(), default_config()
    assert configs.differences(saved, given) == []
    given.model.num_slots = 7
    given.train.log_every = 1
    given.data.options.image_size = 32
    given.eval.lengths = (10,)
    assert configs.differences(saved.to_dict(), given, ignore=["train", "eval.lengths"]) == [
        "data.options.image_size: saved nothing, given 32",
        "model.num_slots: saved 5, given 7",
    ]


@settings(deadline=None)  # it runs config files, and a busy machine is slow
@given(
    learning_rate=st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False),
    stages=st.lists(st.tuples(*[st.integers(1, 10**6)] * 3), max_size=3).map(tuple),
    variant=st.text(),
)
def test_any_value_survives_the_command_line_and_json(learning_rate, stages, variant):
    overrides, _ = split_overrides(
        [
            f"--config.optim.learning_rate={learning_rate!r}",
            "--config.curriculum.stages",
            repr(stages),
            f"--config.data.variant={variant}",
        ]
    )
    config = load_config("default", overrides)
    for copy in (config, configs.from_json(configs.to_json(config))):
        assert math.isclose(copy.optim.learning_rate, learning_rate, rel_tol=0)
        assert copy.curriculum.stages == stages
        assert copy.data.variant == variant
