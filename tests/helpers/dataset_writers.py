"""Write every data set in miniature, byte for byte in its own format, from known hands.

The joint orders, units and codes below follow the formats' descriptions and use nothing of the readers or of
``cvhpe.geometry.skeleton``, so that a mistake there shows.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

# The canonical joints (root, thumb, index, middle, ring, little; base to tip) in the order of each data set.
THUMB, INDEX, MIDDLE, RING, LITTLE = ([1 + 4 * f + k for k in range(4)] for f in range(5))
STB_ORDER = [0, *LITTLE, *RING, *MIDDLE, *INDEX, *THUMB]
MSRA_ORDER = [0, *INDEX, *MIDDLE, *RING, *LITTLE, *THUMB]
RHD_ORDER = [0, *THUMB[::-1], *INDEX[::-1], *MIDDLE[::-1], *RING[::-1], *LITTLE[::-1]]
INTERHAND_ORDER = [*THUMB[::-1], *INDEX[::-1], *MIDDLE[::-1], *RING[::-1], *LITTLE[::-1], 0]


def hand(rng: np.random.Generator, side: int, *, z: float = 550.0) -> np.ndarray:
    """A hand ``(21, 3)`` mm in the camera frame, canonical order, wrist as root: fingers up, palm to the camera."""
    xyz = np.zeros((21, 3))
    xyz[THUMB] = [[22, -18, -4], [45, -45, -10], [60, -66, -16], [70, -86, -24]]
    for finger, x in ((INDEX, 26), (MIDDLE, 5), (RING, -14), (LITTLE, -31)):
        at, bend = np.array([x, -90.0, 0.0]), rng.uniform(0.05, 0.5)
        xyz[finger[0]] = at
        for joint, length in zip(finger[1:], (38.0, 24.0, 20.0), strict=True):
            at = at + length * np.array([0, -np.cos(bend), -np.sin(bend)])
            xyz[joint] = at
            bend += rng.uniform(0.1, 0.6)
    # From its palm side, a right hand has its thumb on the right.
    if side == 0:
        xyz[:, 0] *= -1
    axis = rng.normal(size=3)
    axis *= rng.uniform(0, 0.5) / np.linalg.norm(axis)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation, _ = np.linalg.qr(np.eye(3) + skew)
    rotation = rotation * np.sign(np.diag(rotation))
    return (xyz - xyz[9]) @ rotation.T + [*rng.uniform(-30, 30, 2), z + rng.uniform(-40, 40)]


def palm_root(xyz: np.ndarray) -> np.ndarray:
    """The hand with its palm centre as root."""
    out = xyz.copy()
    out[..., 0, :] = (xyz[..., 0, :] + xyz[..., 9, :]) / 2
    return out


def pixels(xyz: np.ndarray, fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.stack([fx * xyz[..., 0] / xyz[..., 2] + cx, fy * xyz[..., 1] / xyz[..., 2] + cy], -1)


def depth_image(xyz: np.ndarray, uv: np.ndarray, size: tuple[int, int], background: float = 0.0) -> np.ndarray:
    """A disc at every joint, at its depth; the nearest one wins. Float mm ``(H, W)``."""
    y, x = np.mgrid[: size[1], : size[0]]
    out = np.full((size[1], size[0]), float(background))
    for j in np.argsort(-xyz[:, 2]):
        out[(x - uv[j, 0]) ** 2 + (y - uv[j, 1]) ** 2 <= 16] = xyz[j, 2]
    return out


def colour_image(uv: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Green discs at the joints on dark grey, uint8 ``(H, W, 3)``."""
    y, x = np.mgrid[: size[1], : size[0]]
    out = np.full((size[1], size[0], 3), 40, np.uint8)
    for u, v in uv:
        out[(x - u) ** 2 + (y - v) ** 2 <= 16] = (30, 220, 30)
    return out


def save(path: Path, image: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


STB_SEQUENCES = [f"B{k}{kind}" for k in range(1, 7) for kind in ("Counting", "Random")]


def write_stb(root: Path, rng: np.random.Generator, frames: int = 2, sequences=STB_SEQUENCES, depth: bool = True):
    """STB; gives sequence -> ``(frames, 21, 3)`` of the left stereo camera, canonical order, palm root."""
    size, truth = (640, 480), {}
    r = np.array([0.00531, -0.01196, 0.00301])
    k = np.array([[0, -r[2], r[1]], [r[2], 0, -r[0]], [-r[1], r[0], 0]])
    angle = np.linalg.norm(r)
    rotation = np.eye(3) + np.sin(angle) / angle * k + (1 - np.cos(angle)) / angle**2 * k @ k
    for name in sequences:
        xyz = palm_root(np.stack([hand(rng, 0) for _ in range(frames)]))
        truth[name] = xyz
        (root / "labels").mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(root / "labels" / f"{name}_BB.mat", {"handPara": xyz[:, STB_ORDER].transpose(2, 1, 0)})
        for i, hand_xyz in enumerate(xyz):
            folder = root / "images" / name
            for view, shift in (("left", 0), ("right", 120.054)):
                uv = pixels(hand_xyz - [shift, 0, 0], 822.79041, 822.79041, 318.47345, 250.31296)
                save(folder / f"BB_{view}_{i}.png", colour_image(uv, size))
            if depth:
                in_colour = hand_xyz @ rotation + [3, -5, 20]  # elsewhere than in the stereo pair
                in_depth = in_colour @ rotation.T + [-24.0381, -0.4563, -1.2326]
                uv = pixels(in_colour, 607.92271, 607.88192, 314.78337, 236.42484)
                save(folder / f"SK_color_{i}.png", colour_image(uv, size))
                uv = pixels(in_depth, 475.62768, 474.77709, 336.41179, 238.77962)
                mm = depth_image(in_depth, uv, size, 1200).round().astype(np.uint16)
                coded = np.stack([mm % 256, mm // 256, np.zeros_like(mm)], -1).astype(np.uint8)
                save(folder / f"SK_depth_{i}.png", coded)
        if depth:
            in_depth = (xyz @ rotation + [3, -5, 20]) @ rotation.T + [-24.0381, -0.4563, -1.2326]
            scipy.io.savemat(
                root / "labels" / f"{name}_SK.mat", {"handPara": in_depth[:, STB_ORDER].transpose(2, 1, 0)}
            )
    return truth


def _icvl_uvd(rng: np.random.Generator) -> np.ndarray:
    xyz = palm_root(hand(rng, 0, z=400))
    xyz = xyz[[0, *(j for finger in (THUMB, INDEX, MIDDLE, RING, LITTLE) for j in (finger[0], finger[1], finger[3]))]]
    return np.concatenate([pixels(xyz, 240.99, 240.96, 160, 120), xyz[:, 2:]], 1)


def write_icvl(root: Path, rng: np.random.Generator, train: int = 3, test: tuple[int, int] = (2, 2)):
    """ICVL; gives split -> ``(N, 16, 3)`` u, v, depth."""
    truth: dict[str, list] = {"train": [], "test": []}
    recordings = ("201403121135", "201403121140", "22-5/201403121135")
    lists = [("Training", "labels.txt", recording, train) for recording in recordings]
    lists += [("Testing", f"test_seq_{k}.txt", f"test_seq_{k}", n) for k, n in enumerate(test, 1)]
    for part, label, sequence, count in lists:
        lines = []
        for i in range(count):
            uvd = _icvl_uvd(rng)
            name = f"{sequence}/image_{i:04d}.png"
            mm = depth_image(uvd, uvd[:, :2], (320, 240), 0).round().astype(np.uint16)
            save(root / part / "Depth" / name, mm)
            lines.append(f"{name} " + " ".join(f"{x:.3f}" for x in uvd.ravel()) + " ")
            truth["train" if part == "Training" else "test"].append(uvd)
        with (root / part / label).open("a") as f:
            f.write("\n".join(lines) + "\n")
    return {k: np.stack(v) for k, v in truth.items()}


def write_nyu(root: Path, rng: np.random.Generator, train: int = 2, test: int = 2):
    """NYU, three views; gives split -> ``(3, N, 14, 3)`` mm, y down."""
    kept = [0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32]
    from_hand = [
        LITTLE[3], LITTLE[1], RING[3], RING[1], MIDDLE[3], MIDDLE[1], INDEX[3], INDEX[1], THUMB[3], THUMB[2], THUMB[1]
    ]  # fmt: skip
    truth = {}
    for split, count in (("train", train), ("test", test)):
        xyz = rng.normal(0, 60, (3, count, 36, 3)) + np.array([0, 0, 700])
        for view in range(3):
            for i in range(count):
                h = hand(rng, 1, z=700)
                wrist = [h[0] + [-20, 0, 0], h[0] + [20, 0, 0], (h[0] + h[9]) / 2]
                xyz[view, i, kept] = np.concatenate([h[from_hand], wrist])
        truth[split] = xyz[:, :, kept]
        uv = pixels(xyz, 588.03, 587.07, 320, 240)
        labels = {"joint_uvd": np.concatenate([uv, xyz[..., 2:]], -1), "joint_xyz": xyz * [1, -1, 1]}
        (root / split).mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(root / split / "joint_data.mat", labels, do_compression=True)
        for view in range(3):
            for i in range(count):
                mm = depth_image(xyz[view, i, kept], uv[view, i, kept], (640, 480), 2001).round().astype(np.uint16)
                coded = np.stack([np.zeros_like(mm), mm // 256, mm % 256], -1).astype(np.uint8)
                save(root / split / f"depth_{view + 1}_{i + 1:07d}.png", coded)
                save(root / split / f"rgb_{view + 1}_{i + 1:07d}.png", colour_image(uv[view, i, kept], (640, 480)))
    return truth


def write_msra(root: Path, rng: np.random.Generator, frames: int = 2, subjects=range(9), gestures=("1", "TIP")):
    """MSRA15; gives (subject, gesture) -> ``(frames, 21, 3)`` mm in the camera frame, canonical order."""
    truth = {}
    for subject in subjects:
        for gesture in gestures:
            folder = root / f"P{subject}" / gesture
            folder.mkdir(parents=True, exist_ok=True)
            xyz = np.stack([hand(rng, 1, z=350) for _ in range(frames)])
            truth[subject, gesture] = xyz
            native = xyz[:, MSRA_ORDER] * [1, -1, -1]
            lines = [" ".join(f"{x:.4f}" for x in row.ravel()) for row in native]
            (folder / "joint.txt").write_text(f"{frames}\n" + "\n".join(lines) + "\n")
            for i in range(frames):
                uv = pixels(xyz[i], 241.42, 241.42, 160, 120)
                mm = depth_image(xyz[i], uv, (320, 240))
                left, top = np.maximum(np.floor(uv.min(0)).astype(int) - 8, 0)
                right, bottom = np.minimum(np.ceil(uv.max(0)).astype(int) + 8, (320, 240))
                with (folder / f"{i:06d}_depth.bin").open("wb") as f:
                    f.write(np.array([320, 240, left, top, right, bottom], "<u4").tobytes())
                    f.write(mm[top:bottom, left:right].astype("<f4").tobytes())
    return truth


def write_freihand(root: Path, rng: np.random.Generator, poses: int = 2, evaluation: int = 2, labels: bool = True):
    """FreiHAND v2; gives split -> ``(N, 21, 3)`` mm."""
    truth = {}
    for folder, split, count, versions in (("training", "train", poses, 4), ("evaluation", "test", evaluation, 1)):
        xyz = np.stack([hand(rng, 1, z=650) for _ in range(count)])
        K = [[[480.0 + i, 0, 112], [0, 480.0 + i, 112], [0, 0, 1]] for i in range(count)]
        truth[split] = xyz
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{folder}_K.json").write_text(json.dumps(K))
        if labels or split == "train":
            (root / f"{folder}_xyz.json").write_text(json.dumps((xyz / 1000).tolist()))
        (root / f"{folder}_scale.json").write_text(json.dumps([0.03] * count))
        for i in range(count):
            uv = pixels(xyz[i], 480.0 + i, 480.0 + i, 112, 112)
            image = colour_image(uv, (224, 224))
            for version in range(versions):
                save(root / folder / "rgb" / f"{i + count * version:08d}.jpg", image, quality=95)
            if split == "train":
                mask = np.where(image[..., 1] > 100, 255, 0).astype(np.uint8)
                save(root / folder / "mask" / f"{i:08d}.jpg", mask, quality=95)
    return truth


def coco_content(rng: np.random.Generator, names: list[str], *, nested: bool = False, order=tuple(range(21))):
    """COCO-style content with one right hand an image, and the truth ``(N, 21, 3)`` mm, canonical order."""
    xyz = np.stack([hand(rng, 1) for _ in names])
    images, annotations = [], []
    for i, name in enumerate(names):
        camera = {"focal": [400.0, 400.0], "princpt": [160.0, 120.0]}
        images.append({"id": 10 + i, "file_name": name, "width": 320, "height": 240, "cam_param": camera})
        native = xyz[i][list(order)]
        keypoints = np.concatenate([pixels(native, 400, 400, 160, 120), np.ones((21, 1))], 1)
        annotations.append(
            {
                "id": 100 + i,
                "image_id": 10 + i,
                "category_id": 1,
                "keypoints": keypoints.tolist() if nested else keypoints.ravel().tolist(),
                "joint_cam": native.tolist(),
                "hand_type": "right",
                "bbox": [100, 60, 120, 130],
            }
        )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "hand"}]}, xyz


def write_coco(root: Path, rng: np.random.Generator, count: int = 3, file: str = "annotations/mine_train.json", **how):
    """COCO-style JSON with its images in ``images/``; gives the truth ``(N, 21, 3)`` mm, canonical order."""
    content, xyz = coco_content(rng, [f"{Path(file).stem}_{i}.png" for i in range(count)], **how)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))
    for entry, joints in zip(content["images"], xyz, strict=True):
        uv = pixels(joints, 400, 400, 160, 120)
        save(root / "images" / entry["file_name"], colour_image(uv, (320, 240)))
    return xyz


def write_interhand(root: Path, rng: np.random.Generator):
    """InterHand2.6M's three files: one image of both hands, one of a left hand; gives id -> ``(21, 3)`` mm."""
    cameras, joints, truth = {"0": {}}, {"0": {}}, {}
    content: dict = {"images": [], "annotations": []}
    for i, sides in enumerate([(1, 0), (0,)]):
        position, camera = rng.normal(0, 100, 3), str(400 + i)
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        world, valid = np.ones((42, 3)), np.zeros((42, 1), int)
        for side in sides:
            xyz = hand(rng, side)
            truth[f"test/image{i}:{('left', 'right')[side]}"] = xyz
            rows = slice(0, 21) if side == 1 else slice(21, 42)
            world[rows] = xyz[INTERHAND_ORDER] @ np.linalg.inv(rotation).T + position
            valid[rows] = 1
        parameters = {
            "campos": position,
            "camrot": rotation,
            "focal": np.array([500.0, 510.0]),
            "princpt": np.array([160.0, 120]),
        }
        for key, value in parameters.items():
            cameras["0"].setdefault(key, {})[camera] = value.tolist()
        joints["0"][str(i)] = {"world_coord": world.tolist(), "joint_valid": valid.astype(bool).tolist()}
        kind = "interacting" if len(sides) == 2 else "left"
        content["images"].append(
            {"id": i, "file_name": f"image{i}.jpg", "width": 320, "height": 240, "capture": 0, "seq_name": f"s{i}",
             "camera": camera, "frame_idx": i}
        )  # fmt: skip
        content["annotations"].append({"id": i, "image_id": i, "joint_valid": valid.tolist(), "hand_type": kind})
        save(root / f"image{i}.jpg", np.zeros((240, 320, 3), np.uint8))
    for name, part in (("data", content), ("camera", cameras), ("joint_3d", joints)):
        (root / f"test_interhand_{name}.json").write_text(json.dumps(part))
    return truth
