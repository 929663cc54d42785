"""Set up a run: its dataset and its parameters, from a workdir or a trained model's file."""

from pathlib import Path

from ml_collections import ConfigDict

from stii_jax import pretrained
from stii_jax.config import ConfigError, default_config, differences, load_config, stage_configs
from stii_jax.data.pipeline.source import VideoDataset, open_dataset
from stii_jax.evaluation.evaluator import check_evaluation, check_forecast, check_image_size
from stii_jax.models.registry import SYSTEMS, fits_every_size, model_settings
from stii_jax.models.schedule import decodes_fit
from stii_jax.pretrained.trained import Trained
from stii_jax.runs.dataset import dataset_of, describe
from stii_jax.runs.trust import check_links, read_object
from stii_jax.storage.checkpoints import CheckpointError, restore_params
from stii_jax.storage.metric_log import read_metrics
from stii_jax.training.checks import check_training


def check(config: ConfigDict, mode: str) -> None:
    """Check the settings before a dataset is built, a model compiled or a file written.

    Raises:
        ConfigError: settings do not fit the dataset or each other.
        DataError: there is no such dataset.
        DeviceError: the devices cannot share a batch.
    """
    trained, evaluated = describe(config), describe(config, evaluated=True)
    if mode == "train" and config.model.predictor != "prior":
        raise ConfigError(
            f"config.model.predictor is {config.model.predictor!r}, which is learned from a trained model's tracks: "
            "train with --config.model.predictor=prior, then give --mode learn_motion"
        )
    if mode == "train":
        configs = stage_configs(config)
        stages = [describe(stage) for stage in configs]
        check_training(config, stages)
        for number, stage in enumerate(stages):
            check_weights(configs[number])
            check_image_size(stage.image_size)
            if stage.image_size != trained.image_size and not fits_every_size(config):
                raise ConfigError(
                    f"stage {number + 1} of the training has frames of {stage.image_size} pixels, but the model is for "
                    f"{trained.image_size}: give it the same data.options.image_size, or use "
                    "model.architecture=pyramid, whose parameters fit every size"
                )
    check_evaluation(config, evaluated)
    if mode == "predict":
        check_forecast(config, evaluated)
    if trained.image_size != evaluated.image_size:
        raise ConfigError(
            f"config.eval.variant is {config.eval.variant!r}, with frames of {evaluated.image_size} pixels, but the "
            f"model is for {trained.image_size}: change --config.eval.variant or its options"
        )


def check_weights(config: ConfigDict) -> None:
    """Raise `ConfigError` if the loss would weight some decodes by more than 1."""
    budget, schedule = config.model.num_refinements, config.model.schedule
    kind = "constant" if config.system == "iodine" else schedule
    of_stii = SYSTEMS[config.system].is_stii
    if not of_stii or config.loss.refinement_weights != "budget" or decodes_fit(budget, kind):
        return
    same_grid = f"--config.model.schedule=paper --config.model.num_refinements={budget + 1} (the same refinements), or "
    raise ConfigError(
        f"config.loss.refinement_weights is 'budget', which weights decode r by r/{budget}, but with config.system="
        f"{config.system} and config.model.schedule={schedule} some frames have {budget + 1} decodes: give "
        f"{same_grid if kind == 'triangular' else ''}--config.loss.refinement_weights=frame"
    )


def load_dataset(config: ConfigDict, *, evaluated: bool = False) -> VideoDataset:
    """Open the dataset that the config trains or evaluates on, building it if it is missing."""
    data = config.data
    folders = (data.data_dir, data.manual_dir)
    return open_dataset(*dataset_of(config, evaluated), *folders, num_threads=data.num_threads)


def open_stages(config: ConfigDict) -> list[VideoDataset]:
    """Open the training videos of each stage, building missing datasets. Stages with the same data share one."""
    opened: dict[str, VideoDataset] = {}
    sources = []
    for stage in stage_configs(config):
        name = repr(dataset_of(stage, evaluated=False))
        opened[name] = opened[name] if name in opened else load_dataset(stage)
        sources.append(opened[name])
    return sources


def restore(config: ConfigDict, workdir: Path) -> Trained:
    """Restore the trained model from the newest checkpoint in a workdir.

    Raises:
        CheckpointError: there is none, or it does not name its model and step.
        ConfigError: it holds another model than the config's.
    """
    params, meta = restore_params(workdir / "checkpoints")
    if type(meta.get("model")) is not dict or type(meta.get("step")) is not int:
        raise CheckpointError(f"the checkpoints in {workdir} do not name their model: use another --workdir")
    # The default of a newer setting stands for the behaviour before it existed.
    saved = model_settings(default_config(), config.system) | meta["model"]
    if changed := differences({"model": saved}, {"model": model_settings(config)}):
        raise ConfigError(
            f"the checkpoints in {workdir} hold a model with other settings ({'; '.join(changed[:5])}): use those, or "
            "another --workdir"
        )
    logged = read_metrics(workdir / "metrics.jsonl")
    facts = {"step": meta["step"], "seed": config.seed} | read_object(workdir / "provenance.json")
    facts["train_seconds"] = logged[-1]["time"] if logged else None
    return Trained(load_config(workdir / "config.json"), params, facts)


def load_trained(name: str) -> tuple[Trained, dict[str, str]]:
    """Load a trained model by its name, file or run. Also return its origin, as recorded in `decomposition.json`.

    Args:
        name: a model that comes with the package, a `.safetensors` file, or the folder of a run, whose newest
            checkpoint is used.

    Raises:
        ModelFileError: there is no such model, or its file is damaged.
        CheckpointError: the run has no checkpoint.
        ConfigError: the folder holds no run.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir() or name in pretrained.names():
        return pretrained.load(name), {"model": name}
    if not (folder / "config.json").is_file():
        raise ConfigError(f"no run in {folder}: give the folder of a run, or one of {', '.join(pretrained.names())}")
    check_links(folder)
    return restore(load_config(folder / "config.json"), folder), {"workdir": str(folder)}
