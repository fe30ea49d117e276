"""From ``--data NAME[:PATH]`` to the packed samples of a run: training, validation, test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cvhpe.config.schema import Config
from cvhpe.data.packing.pack import Pack
from cvhpe.data.packing.prepare import prepare
from cvhpe.data.packing.rectification import rectify_pack
from cvhpe.data.reader import SplitAbsent
from cvhpe.data.source import parse_source
from cvhpe.data.splits import DataSplits
from cvhpe.errors import UserError
from cvhpe.io.progress import StageProgressCallback
from cvhpe.models.pairs import parse_pairs
from cvhpe.plugin.registry import registry
from cvhpe.plugin.sample import DatasetSpec
from cvhpe.runs.run_dir import load_run, model_fields
from cvhpe.training.resolve import joints_only
from cvhpe.training.semi_supervised import few_labels

VALIDATION_SHARE = 0.05
MAX_VALIDATION = 2000


def resolve_source(source: str, config: Config) -> tuple[DatasetSpec, Path | None]:
    """The data set and path of ``NAME[:PATH]``.

    Args:
        source: as in ``rhd:/data/RHD_published_v2``.
        config: count and seed of the synthetic data set, if it has no path.

    Returns:
        The specification, and the path; None without one.
    """
    spec, path = parse_source(source)
    if spec.name == "synthetic" and path is None:
        return spec, Path(f"?count={config.synthetic_count}&seed={config.synthetic_seed}")
    return spec, path


def open_split(
    source: str, split: str, config: Config, progress: StageProgressCallback | None = None, limit: int = 0
) -> Pack:
    """One split of a data set, packed as a run needs it.

    Args:
        source: ``NAME[:PATH]``.
        split: one of the data set's splits.
        config: sizes and modalities of the run.
        progress: called while samples are packed.
        limit: pack only the first so many samples; 0 packs all.

    Returns:
        The samples, rectified if a modality of the run asks for it.
    """
    spec, path = resolve_source(source, config)
    pack = prepare(
        spec,
        path,
        split,
        image_size=config.image_size,
        margin=config.crop_margin,
        crop_factor=config.crop_factor,
        fields=model_fields(config),
        limit=limit or None,
        progress=None if progress is None else lambda done, total: progress(f"{spec.name} {split}", done, total),
    )
    at_root = any(registry().modality(name).frame == "root" for name in config.modalities)
    return rectify_pack(pack)[0] if at_root else pack


def open_data(config: Config, progress: StageProgressCallback | None = None) -> DataSplits:
    """Open a run's training, validation and test samples, which are packed the first time.

    A data set without a validation split gives a fixed share of its training groups. The test split is opened as well,
    so that what it lacks is known before the training.

    Args:
        config: settings of the run.
        progress: called while samples are packed.

    Returns:
        The samples, and notes for the user.

    Raises:
        UserError: If there are too few samples, or the settings do not fit the data.
    """
    data = DataSplits([], [], [])
    for source in config.data:
        spec, _ = resolve_source(source, config)
        train = open_split(source, "train", config, progress, config.max_train_samples)
        if "val" in spec.splits:
            validation = open_split(source, "val", config, progress)
        else:
            train, validation = train.split(VALIDATION_SHARE)
        if config.label_fraction < 1:
            train = _hide_labels(train, config)
        data.train.append(train)
        data.validation.append(validation.limit(MAX_VALIDATION))
        if "test" in spec.splits:
            try:
                test = open_split(source, "test", config, progress)
            except SplitAbsent as absent:
                data.notes.append(f"{absent}: this run is evaluated on its validation samples")
            else:
                data.notes += pack_notes([train, validation, test])
                if not test["has_joints3d"].any():
                    data.notes.append(f"{source}: its test samples have no 3D labels; evaluated on validation samples")
                elif not same_samples(test, validation):
                    data.test.append(test)
        data.notes += pack_notes([train, validation])
    data.notes = list(dict.fromkeys(data.notes))
    if not sum(map(len, data.validation)):
        raise UserError(f"--data {', '.join(config.data)}: too few training samples to hold any out for validation")
    return data


def _hide_labels(train: Pack, config: Config) -> Pack:
    """The training samples of which only ``label_fraction`` keep their 3D joints."""
    pairs = parse_pairs(",".join(config.pairs), config.modalities)
    if config.pseudo_label_run and not joints_only(config.modalities):
        raise UserError("pseudo_label_run: no image shows the predicted hands; for runs of joints alone")
    labeller = load_run(config.pseudo_label_run) if config.pseudo_label_run else None
    return few_labels(train, config.label_fraction, config.seed, pairs, labeller)


def open_held_out(
    config: Config, sources: Sequence[str], split: str, progress: StageProgressCallback | None = None
) -> list[Pack]:
    """The held-out samples of data sets.

    Args:
        config: sizes and modalities of the run.
        sources: ``NAME[:PATH]`` of each.
        split: empty for the test split, or the validation split if there is no test split.
        progress: called while samples are packed.

    Returns:
        A pack of each.
    """
    packs = []
    for source in sources:
        spec, _ = resolve_source(source, config)
        chosen = split or ("test" if "test" in spec.splits else "val" if "val" in spec.splits else spec.splits[-1])
        packs.append(open_split(source, chosen, config, progress))
    return packs


def pack_notes(packs: Sequence[Pack]) -> list[str]:
    """The notes of packs, each once: how a split was made, which copy is incomplete."""
    return list(dict.fromkeys(p.note for p in packs if p.note))


def same_samples(a: Pack, b: Pack) -> bool:
    """Whether two packs hold the same samples, as where a file calls its validation frames its test.

    Args:
        a: a pack.
        b: another one.

    Returns:
        Whether their ids are equal.
    """
    return len(a) == len(b) and bool((a["id"] == b["id"]).all())
