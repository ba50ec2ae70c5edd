"""Small data sets of every format, written by plain functions: pictures whose colour tells the class."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

CLASSES = ("blue", "green", "red")
COLOURS = {"blue": (20, 40, 220), "green": (20, 200, 40), "red": (220, 30, 20)}


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (32, 24), seed: int = 0) -> Path:
    """A noisy picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-20, 20, (size[1], size[0], 3))
    pixels = np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def flat_folder(folder: Path, each: int = 10, suffix: str = ".png") -> Path:
    """`<class>/<image>`."""
    for colour in CLASSES:
        for number in range(each):
            picture(folder / colour / f"{number}{suffix}", colour, seed=number)
    return folder


def split_folder(folder: Path, second: str = "val", each: int = 4) -> Path:
    """`train/<class>/<image>` and `<second>/<class>/<image>`."""
    flat_folder(folder / "train", each)
    flat_folder(folder / second, 2)
    return folder


def coco(folder: Path, images: int = 6, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """`annotations/instances_<split>2017.json`, `<split>2017/*.jpg`; the last image of each has no boxes."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split in splits:
        listed, boxes = [], []
        for number in range(images):
            name = f"{number:03}.jpg"
            picture(folder / f"{split}2017" / name, CLASSES[number % 3], (40, 30), number)
            listed.append({"id": 100 + number, "file_name": name, "width": 40, "height": 30})
            if number < images - 1:
                outline = [[2, 3, 12, 3, 12, 11, 2, 11]]
                boxes.append({"id": number, "image_id": 100 + number, "category_id": (7, 90)[number % 2],
                              "bbox": [2, 3, 10, 8], "iscrowd": 0, "segmentation": outline})  # fmt: skip
        content = {"images": listed, "annotations": boxes,
                   "categories": [{"id": 90, "name": "mask"}, {"id": 7, "name": "glove"}]}  # fmt: skip
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return folder


def voc(folder: Path) -> Path:
    """`Annotations/`, `JPEGImages/`, `ImageSets/Main/*.txt`; `dog` is in train alone, `ant` in val."""
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    names = {"train": ["dog", "cat", "dog", "cat"], "val": ["ant", "cat"]}
    for split, classes in names.items():
        stems = [f"{split}{number}" for number in range(len(classes))]
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")
        for stem, name in zip(stems, classes, strict=True):
            picture(folder / "JPEGImages" / f"{stem}.jpg", size=(40, 30))
            (folder / "Annotations" / f"{stem}.xml").write_text(
                f"<annotation><filename>{stem}.jpg</filename><object><name>{name}</name><bndbox><xmin>5</xmin>"
                "<ymin>6</ymin><xmax>25</xmax><ymax>16</ymax></bndbox></object></annotation>"
            )
    return folder


def segmentation(folder: Path, each: int = 4, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """`images/<split>/*.jpg`, `masks/<split>/*.png` (classes 0 and 1, 255 ignored), `id2label.json`."""
    for split in splits:
        for number in range(each):
            picture(folder / "images" / split / f"{number}.jpg", "blue", (32, 32), number)
            mask = Image.new("L", (32, 32))
            ImageDraw.Draw(mask).rectangle((8, 8, 20, 20), fill=1)
            ImageDraw.Draw(mask).line((0, 0, 31, 0), fill=255)
            (folder / "masks" / split).mkdir(parents=True, exist_ok=True)
            mask.save(folder / "masks" / split / f"{number}.png")
    (folder / "id2label.json").write_text(json.dumps({"0": "board", "1": "chip"}))
    return folder


def lines(file: Path, rows: list[dict]) -> Path:
    """A `.jsonl` file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def questions(folder: Path, count: int = 6) -> Path:
    """`train.jsonl` of questions about pictures that lie in `images/`, by relative paths."""
    for number in range(count):
        picture(folder / "images" / f"{number}.png", CLASSES[number % 3], seed=number)
    rows = [{"image": f"images/{number}.png", "question": "Which colour?", "answer": CLASSES[number % 3]}
            for number in range(count)]  # fmt: skip
    lines(folder / "train.jsonl", rows)
    return folder


def chats(file: Path, count: int = 8) -> Path:
    """Conversations."""
    return lines(file, [
        {"messages": [{"role": "user", "content": f"How much is {number} + 1?"},
                      {"role": "assistant", "content": str(number + 1)}]}
        for number in range(count)
    ])  # fmt: skip


def table(file: Path, count: int = 9, column: str = "image_path") -> Path:
    """A csv or parquet table of picture paths (relative to it) and the names of their classes."""
    rows = []
    for number in range(count):
        colour = CLASSES[number % 3]
        picture(file.parent / "pictures" / f"{number}.png", colour, seed=number)
        rows.append({column: f"pictures/{number}.png", "label": colour})
    frame = pd.DataFrame(rows)
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file)
    return file


def arrow(folder: Path, splits: bool = True) -> Path:
    """What `save_to_disk` writes: a DatasetDict, or one Dataset."""
    from datasets import Dataset, DatasetDict

    parts = {
        name: Dataset.from_dict({"text": [f"{name} {number}" for number in range(count)]})
        for name, count in (("train", 8), ("validation", 3))
    }
    (DatasetDict(parts) if splits else parts["train"]).save_to_disk(str(folder))
    return folder
