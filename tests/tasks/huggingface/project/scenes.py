"""Small pictures with a known truth, as prepare_data.py would leave them."""

import datasets
import numpy as np
from PIL import Image, ImageDraw

COLOURS = ((220, 40, 40), (40, 60, 230))
NAMES = ["red", "blue"]


def coloured_noise(n, seed):
    """Pictures of three classes, told apart by their colour."""
    random = np.random.default_rng(seed)
    pictures = []
    for number in range(n):
        pixels = random.integers(0, 60, (40, 48, 3), dtype=np.uint8)
        pixels[..., number % 3] += 120
        pictures.append(Image.fromarray(pixels))
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["red", "green", "blue"])}
    )
    labels = [number % 3 for number in range(n)]
    return datasets.Dataset.from_dict({"image": pictures, "label": labels}, features=features)


def squares(n, seed, kind):
    """Squares of two colours on a dark ground: with boxes, outlines, ids or classes of pixels, or a depth."""
    random = np.random.default_rng(seed)
    made = [_square_scene(random) for _ in range(n)]
    pictures = [scene["image"] for scene in made]
    columns = {
        "boxes": {"objects": [_without(scene["objects"], "segmentation") for scene in made]},
        "outlines": {"objects": [scene["objects"] for scene in made]},
        "ids": {"annotation": [s["ids"] for s in made], "segments_info": [s["segments"] for s in made]},
        "classes": {"annotation": [scene["classes"] for scene in made]},
        "depth": {"depth_map": [scene["depth"] for scene in made]},
    }[kind]
    return datasets.Dataset.from_dict({"image": pictures, **columns})


def _without(objects, key):
    return {name: values for name, values in objects.items() if name != key}


def _square_scene(random):
    height, width = int(random.integers(56, 72)), int(random.integers(64, 90))
    image = Image.fromarray(random.integers(0, 50, (height, width, 3), dtype=np.uint8))
    classes, ids = Image.new("L", image.size), Image.new("L", image.size)
    objects = {"bbox": [], "category_id": [], "segmentation": []}
    for number in range(1, int(random.integers(2, 4))):
        kind, side = int(random.integers(0, 2)), int(random.integers(12, 24))
        x, y = int(random.integers(0, width - 25)), int(random.integers(0, height - 25))
        corners = (x, y, x + side - 1, y + side - 1)
        for target, fill in ((image, COLOURS[kind]), (classes, kind + 1), (ids, number)):
            ImageDraw.Draw(target).rectangle(corners, fill=fill)
        objects["bbox"].append([x, y, side, side])
        objects["category_id"].append(kind)
        right, low = corners[2], corners[3]
        objects["segmentation"].append([[x, y, right, y, right, low, x, low]])
    ground = np.linspace(1, 5, height)[:, None] * np.ones((1, width))
    depth = np.where(np.array(classes) > 0, 0.6, ground) * 1000
    segments = [{"id": i, "category_id": k} for i, k in enumerate(objects["category_id"], start=1)]
    return {
        "image": image,
        "objects": objects,
        "classes": classes,
        "ids": ids,
        "segments": segments,
        "depth": Image.fromarray(depth.astype(np.int32)),
    }
