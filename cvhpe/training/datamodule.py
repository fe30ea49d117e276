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
MOST_VALIDATION = 2000


def parse(source: str, config: Config) -> tuple[DatasetSpec, Path | None]:
    """``"rhd:/data/RHD_published_v2"`` -> the data set's specification and its path.

    The synthetic data set without a path is the one of the configuration's count and seed.
    """
    spec, path = parse_source(source)
    if spec.name == "synthetic" and path is None:
        return spec, Path(f"?count={config.synthetic_count}&seed={config.synthetic_seed}")
    return spec, path


def pack(
    source: str,
    split: str,
    config: Config,
    fields: Sequence[str],
    progress: StageProgressCallback | None = None,
    limit: int = 0,
) -> Pack:
    """One split of one data set, packed as a configuration wants it, in the frame that its modalities ask for."""
    spec, path = parse(source, config)
    packed = prepare(
        spec,
        path,
        split,
        image_size=config.image_size,
        margin=config.crop_margin,
        crop_factor=config.crop_factor,
        fields=fields,
        limit=limit or None,
        progress=None if progress is None else lambda done, total: progress(f"{spec.name} {split}", done, total),
    )
    at_root = any(registry().modality(name).frame == "root" for name in config.modalities)
    return rectify_pack(packed)[0] if at_root else packed


def open_data(config: Config, progress: StageProgressCallback | None = None) -> DataSplits:
    """Pack what a run trains on and what it is judged by, or find it packed.

    A data set without a validation split gives a fixed share of its training groups. What it calls test
    is opened too, and nothing of it is seen before the end.
    """
    data = DataSplits([], [], [])
    fields = model_fields(config)
    for source in config.data:
        spec, _ = parse(source, config)
        train = pack(source, "train", config, fields, progress, config.max_train_samples)
        if "val" in spec.splits:
            validation = pack(source, "val", config, fields, progress)
        else:
            train, validation = train.split(VALIDATION_SHARE)
        if config.label_fraction < 1:
            pairs = parse_pairs(",".join(config.pairs), config.modalities)
            if config.pseudo_label_run and not joints_only(config.modalities):
                raise UserError("teacher: no picture shows the hands that it sees; teach runs of joints alone")
            teacher = load_run(config.pseudo_label_run) if config.pseudo_label_run else None
            train = few_labels(train, config.label_fraction, config.seed, pairs, teacher)
        data.train.append(train)
        data.validation.append(validation.limit(MOST_VALIDATION))
        if "test" in spec.splits:
            try:
                test = pack(source, "test", config, fields, progress)
            except SplitAbsent as absent:
                data.notes.append(f"{absent}: this run is judged by its validation samples")
            else:
                data.notes += remarked([train, validation, test])
                if not test["has_joints3d"].any():
                    data.notes.append(f"{source}: its test samples have no 3D labels; judged by validation samples")
                elif not same_samples(test, validation):
                    data.test.append(test)
        data.notes += remarked([train, validation])
    data.notes = list(dict.fromkeys(data.notes))
    if not sum(map(len, data.validation)):
        raise UserError(f"--data {', '.join(config.data)}: too few training samples to hold any out for validation")
    return data


def open_held_out(
    config: Config, sources: Sequence[str], split: str, progress: StageProgressCallback | None = None
) -> list[Pack]:
    """The held-out samples of data sets: their test split, or the one that is named."""
    packs = []
    for source in sources:
        spec, _ = parse(source, config)
        chosen = split or ("test" if "test" in spec.splits else "val" if "val" in spec.splits else spec.splits[-1])
        packs.append(pack(source, chosen, config, model_fields(config), progress))
    return packs


def remarked(packs: Sequence[Pack]) -> list[str]:
    """What is to be said of packs, each remark once: how a split came about, which copy is incomplete."""
    return list(dict.fromkeys(p.note for p in packs if p.note))


def same_samples(a: Pack, b: Pack) -> bool:
    """Whether two packs hold the very same samples, as where a file calls its validation frames its test."""
    return len(a) == len(b) and bool((a["id"] == b["id"]).all())
