"""Loaded files are data: nothing in them is run, and nothing outside of their folder is written (docs/security.md)."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from stii_jax.config import ConfigError, load_config
from stii_jax.config import files as configs
from stii_jax.evaluation import result_files
from stii_jax.inference.request import Request
from stii_jax.main import ERRORS, run
from stii_jax.runs import setup, trust
from stii_jax.runs.settings import open_config
from stii_jax.storage.checkpoints import CheckpointError, DamagedCheckpointError, restore_params
from stii_jax.storage.metric_log import LogError, read_metrics

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "stii_jax").rglob("*.py"), *(ROOT / "configs").rglob("*.py")])
CHECKPOINT = Path(__file__).parents[1] / "files" / "checkpoint-v1"
MODES = ("train", "evaluate", "predict", "disentangle", "decompose")

RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "dbm", "yaml", "torch", "code"}
"""Modules that make objects from the data they read, and so can run code."""
CALLS = {"eval", "exec", "compile", "__import__", "import_module", "exec_module", "system", "popen", "extractall"}
DOCUMENTED = {("stii_jax/config/files.py", "exec_module")}
"""A Python config and a sweep are code, which the user must trust."""
DOCUMENTED |= {("stii_jax/lazy.py", "import_module")}
"""Imports of modules named in the source, not in data."""


# --- the source


def dangers(source):
    """Return calls and imports that may execute their input, and numpy reads that may unpickle."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in modules if name.partition(".")[0] in RUNS_CODE)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = {key.arg: ast.unparse(key.value) for key in node.keywords}
            is_numpy = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("np", "numpy")
            refuses_pickles = given.get("allow_pickle") == "False"
            unpickles = not refuses_pickles and ((is_numpy and name == "load") or name in ("read_array", "open_memmap"))
            is_model = name == "compile" and ast.unparse(node.func) != "compile"  # of a regular expression, of XLA
            if (name in CALLS and not is_model) or unpickles or given.get("allow_pickle", "False") != "False":
                yield name
            if given.get("shell", "False") != "False":
                yield "shell"


@pytest.mark.parametrize(
    ("source", "danger"),
    [
        ("import pickle", "pickle"),
        ("def f():\n    from yaml import load", "yaml"),
        ("import torch.serialization as t", "torch.serialization"),
        ("np.load(path)", "load"),
        ("numpy.load(path, allow_pickle=True)", "load"),
        ("np.lib.format.read_array(file)", "read_array"),
        ("x.read(allow_pickle=flag)", "read"),
        ("eval(text)", "eval"),
        ("importlib.import_module(name)", "import_module"),
        ("os.system(name)", "system"),
        ("subprocess.run(line, shell=True)", "shell"),
        ("archive.extractall(folder)", "extractall"),
        ("np.load(path, allow_pickle=False); json.load(f); re.compile(p); ast.literal_eval(t)", None),
    ],
)
def test_the_audit_detects_dangers(source, danger):
    assert list(dangers(source)) == ([danger] if danger else [])


def test_no_source_runs_what_it_reads():
    found = {(str(path.relative_to(ROOT)), name) for path in SOURCES for name in dangers(path.read_text())}
    assert found == DOCUMENTED


# --- poisoned files


@pytest.fixture
def workdir(tmp_path):
    """A run's folder from elsewhere."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "run"))


def refused(mode, workdir, message, error=ConfigError, config=None, settings=()):
    """Assert that the command line shows one line."""
    assert issubclass(error, ERRORS)
    request = Request(workdir / "video.mkv", workdir.parent / "found") if mode == "decompose" else None
    with pytest.raises(error, match=message) as caught:
        run(mode, config, workdir, list(settings), request=request)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "place",
    [
        "params/_METADATA",
        "params/manifest.ocdbt",
        "params/d/*",
        "params/ocdbt.process_0/d/*",
        "params",
        "meta/metadata",
    ],
)
def test_checkpoints_with_pickles(workdir, payload, place):
    for path in (workdir / "checkpoints" / "3").glob(place):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.write_bytes(payload)
    with pytest.raises(DamagedCheckpointError, match="3 is damaged"):
        restore_params(workdir / "checkpoints")


def test_checkpoints_that_name_classes(workdir, marker, module):
    """Orbax records the classes that wrote, and the types of leaves; neither is looked up."""
    step = workdir / "checkpoints" / "3"
    clean, _ = restore_params(workdir / "checkpoints")
    handlers = json.loads((step / "_CHECKPOINT_METADATA").read_text())
    handlers["item_handlers"] = {item: f"{module}.Evil" for item in handlers["item_handlers"]}
    (step / "_CHECKPOINT_METADATA").write_text(json.dumps(handlers))
    tree = json.loads((step / "params" / "_METADATA").read_text())
    for leaf in tree["tree_metadata"].values():
        leaf["value_metadata"]["value_type"] = f"{module}.Evil"
    (step / "params" / "_METADATA").write_text(json.dumps(tree))
    try:
        params, _ = restore_params(workdir / "checkpoints")
    except CheckpointError:
        return
    assert params.keys() == clean.keys()


@pytest.mark.parametrize(
    "text",
    [
        '!!python/object/apply:os.mkdir ["marker"]',
        "[" * 100_000,
        '{"seed": ' + "9" * 10_000 + "}",
        '{"seed": [1]}',
        "\0",
    ],
    ids=["yaml", "deep", "long number", "list", "nothing"],
)
def test_poisoned_config(workdir, text):
    (workdir / "config.json").write_text(text)
    assert "config.json" in refused("decompose", workdir, "config.json")


def test_poisoned_logs_and_provenance(workdir, payload):
    for text in ("[" * 100_000 + "\n", '{"step": Infinity, "time": 0}\n', "3\n", payload.decode("latin-1") + "\n"):
        (workdir / "metrics.jsonl").write_text(text)
        with pytest.raises(LogError, match=r"metrics.jsonl:\d+: no JSON object with step"):
            read_metrics(workdir / "metrics.jsonl")
    (workdir / "metrics.jsonl").write_bytes(payload + b"\n")
    with pytest.raises(LogError):
        read_metrics(workdir / "metrics.jsonl")
    assert issubclass(LogError, ERRORS)
    for text in ("[" * 100_000, "{", "3"):
        (workdir / "provenance.json").write_text(text)
        with pytest.raises(ConfigError, match=r"provenance.json is damaged"):
            trust.read_object(workdir / "provenance.json")


@pytest.mark.parametrize("change", [{"model": 3}, {"step": "../x"}, {"model": None}])
def test_poisoned_meta(workdir, change):
    path = workdir / "checkpoints" / "3" / "meta" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused("decompose", workdir, "do not name their model", CheckpointError)


# --- limits on a workdir's requests


def test_a_workdir_whose_name_is_a_config(tmp_path, marker):
    """`x.py:run/config.json` is not a file x.py with an argument."""
    (tmp_path / "x.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    workdir = Path(shutil.copytree(CHECKPOINT, tmp_path / "x.py:run"))
    assert open_config(None, workdir, []).model.num_slots == 2
    config = load_config(workdir / "config.json")
    assert result_files.label(config, config) == ""


def test_a_json_config_runs_nothing_but_the_defaults(workdir, monkeypatch):
    ran = []
    original = configs._run
    monkeypatch.setattr(configs, "_run", lambda path, argument: ran.append(path) or original(path, argument))
    assert load_config(str(workdir / "config.json")).model.num_slots == 2
    assert ran == [configs.config_folder() / "default.py"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name",
    ["media", "checkpoints", "tensorboard", "metrics.jsonl", "config.json", "checkpoints/3", ".lock", "media/a.png"],
)
def test_links_out_of_a_workdir(tmp_path, workdir, mode, name):
    path, target = workdir / name, tmp_path / "theirs"
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(target)
    elif "." not in name:
        target.mkdir()
    path.symlink_to(target)  # including missing ones, which a write would create
    before = sorted(map(str, tmp_path.rglob("*")))
    refused(mode, workdir, f"{path.name} is a link to {target}")
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_links_within_a_workdir_and_to_it(tmp_path, workdir):
    (workdir / "checkpoints").rename(workdir / "disk")
    (workdir / "checkpoints").symlink_to("disk")
    (tmp_path / "link").symlink_to(workdir)
    for path in (workdir, tmp_path / "link", tmp_path / "nowhere"):
        trust.check_links(path)


def test_a_saved_data_folder(tmp_path, workdir, monkeypatch):
    """The run's own config would have datasets built there; the user's folder has held some."""
    theirs = tmp_path / "theirs"
    content = json.loads((workdir / "config.json").read_text())
    content["data"]["data_dir"] = str(theirs)
    (workdir / "config.json").write_text(json.dumps(content))
    for mode in ("train", "evaluate", "predict"):
        settings = ["eval.observed_frames=1", "eval.predict_frames=1", "eval.batch_size=4"]
        refused(mode, workdir, f"keeps datasets in '{theirs}', which holds none", settings=settings)
    assert not theirs.exists()
    trust.check_data_dir(workdir, str(theirs), [f"data.data_dir={theirs}"])
    trust.check_data_dir(workdir, "", [])
    (theirs / "bouncing_balls").mkdir(parents=True)
    trust.check_data_dir(workdir, str(theirs), [])


def test_names_of_results_stay_in_the_workdir(workdir):
    settings = ["eval.options.folder=../../x", "eval.split=../y", "eval.options.z=('/a', '..')", "eval.system=iodine"]
    trained = load_config(workdir / "config.json")
    assert "/" not in result_files.label(trained, load_config(str(workdir / "config.json"), settings[:3]))
    for setting in ("eval.split=../y", "eval.variant=../y", "data.variant=../y", "data.dataset=../y"):
        with pytest.raises(ERRORS):
            setup.check(load_config(str(workdir / "config.json"), [setting]), "evaluate")


@pytest.mark.parametrize("key", ["model.num_slots", "rnem.num_slots", "ddpae.num_slots", "eval.num_slots"])
def test_more_slots_than_a_byte_counts(key):
    assert load_config("default", [f"{key}=255"])
    with pytest.raises(ConfigError, match=f"config.{key} is 1000000000, expected at most 255"):
        load_config("default", [f"{key}=1000000000"])
