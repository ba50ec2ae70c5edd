"""Fine-tuning of a model that reads images and writes text: LoRA on the text tower.

Rows: `image` (or `images`) with `messages`, with `question` and `answer` / `answers` /
`multiple_choice_answer`, or with `caption` / `text`. Nothing is cut: a sample that loses some of its image
tokens no longer fits its pixels.
"""

from collections import Counter
from typing import Any

import common
from language import (
    IGNORED,
    contains,
    exact_match,
    language_metrics,
    learned,
    plain_content,
    prepare_processor,
    prompt_text,
    rendered,
    replies,
    special_tokens,
    trainer_of,
    up_to_reply,
    vqa_accuracy,
)
from lora import load_language_model

CAPTION_REQUEST = "Describe the image."
IMAGE = {"type": "image"}


def load_processor(config: dict[str, Any], source: str) -> Any:
    """Image processor and tokenizer, able to pad and to write a conversation."""
    from transformers import AutoProcessor

    reader: Any = AutoProcessor
    return prepare_processor(reader.from_pretrained(source))


def load_model(config: dict[str, Any], source: str, *, for_training: bool) -> Any:
    """The model, with an adapter on its text tower where `use_lora` says so."""
    from transformers import AutoModelForImageTextToText

    return load_language_model(AutoModelForImageTextToText, config, source, for_training=for_training)


def dataset(config: dict[str, Any], processor: Any, split: str) -> Any:
    """Rows of `train` or `eval` as they are: the collator makes tokens and pixels of them."""
    return common.saved_rows(config, split)


def images_of(row: dict[str, Any]) -> list[Any]:
    """The row's pictures in RGB: of the column `images`, or the one of `image`."""
    found = row.get("images") or [row["image"]]
    return [common.rgb(image) for image in found]


def references(row: dict[str, Any]) -> list[str]:
    """The answers that count as right: of several people where the row has them, else the one it has."""
    if row.get("answers"):
        return [str(answer["answer"] if isinstance(answer, dict) else answer) for answer in row["answers"]]
    for column in ("multiple_choice_answer", "answer", "caption", "text"):
        if row.get(column) is not None:
            return [str(row[column])]
    return [plain_content(up_to_reply(row["messages"])[-1]["content"])]


def conversation(config: dict[str, Any], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row as messages of parts, up to the last reply.

    Images stand where the messages say so, if they speak of as many as the row has; else before the user's
    first words. Of several answers the model learns `multiple_choice_answer`, or else the most frequent one.
    """
    if row.get("messages") is not None:
        turns = [(turn["role"], parts_of(turn["content"])) for turn in up_to_reply(row["messages"])]
    else:
        answer = row.get("multiple_choice_answer") or Counter(references(row)).most_common(1)[0][0]
        request = row.get("question") or config.get("caption_request") or CAPTION_REQUEST
        turns = [("user", parts_of(str(request))), ("assistant", parts_of(str(answer)))]
    count = len(row.get("images") or [None])
    if sum(part == IMAGE for _, parts in turns for part in parts) != count:
        turns = [(role, [part for part in parts if part != IMAGE]) for role, parts in turns]
        next(parts for role, parts in turns if role == "user")[:0] = [IMAGE] * count
    return [{"role": role, "content": parts} for role, parts in turns]


def parts_of(content: Any) -> list[dict[str, str]]:
    """The content of a message as parts; a string may have `<image>` where a picture belongs."""
    if not isinstance(content, str):
        return [
            IMAGE if part["type"] == "image" else {"type": "text", "text": str(part["text"])}
            for part in content
        ]
    parts: list[dict[str, str]] = []
    for index, text in enumerate(content.split("<image>")):
        parts += [IMAGE] if index else []
        parts += [{"type": "text", "text": text.strip()}] if text.strip() else []
    return parts


def collator(config: dict[str, Any], processor: Any) -> Any:
    """Rows to one padded batch by one call of the processor: pictures differ in their number of tiles."""

    def batch(rows: list[dict[str, Any]]) -> dict[str, Any]:
        written = [rendered(processor, conversation(config, row)) for row in rows]
        texts = [text for text, _ in written]
        images = [images_of(row) for row in rows]
        special = special_tokens(processor, texts[0])
        made = processor(
            text=texts, images=images, padding=True, return_tensors="pt", add_special_tokens=special
        )
        made["labels"] = made["input_ids"].new_full(made["input_ids"].shape, IGNORED)
        for row, (text, spans) in enumerate(written):
            place_labels(made, row, *learned(processor, text, spans))
        return dict(made)

    return batch


def place_labels(batch: Any, row: int, ids: list[int], labels: list[int]) -> None:
    """Carry the labels of the bare text over to the row of the batch, where images take many more tokens.

    Both end alike: after the last image, the tokens are the same. Replies before an image are not learned.

    Raises:
        ValueError: The last reply is not in the part that both share.

    """
    positions = batch["attention_mask"][row].nonzero().flatten().tolist()
    long = batch["input_ids"][row, positions].tolist()
    shared = 0
    while shared < min(len(ids), len(long)) and ids[-1 - shared] == long[-1 - shared]:
        shared += 1
    end = max(index for index, label in enumerate(labels) if label != IGNORED)
    start = end
    while start > 0 and labels[start - 1] != IGNORED:
        start -= 1
    if start < len(labels) - shared:
        raise ValueError("the processor writes the last reply in other tokens than its tokenizer does")
    batch["labels"][row, positions[-shared:]] = batch["labels"].new_tensor(labels[-shared:])


def trainer(
    config: dict[str, Any], model: Any, processor: Any, train: Any, evaluation: Any, arguments: dict[str, Any]
) -> Any:
    """A Trainer of transformers."""
    return trainer_of(model, processor, train, evaluation, arguments, collator(config, processor))


def evaluate(
    config: dict[str, Any], model: Any, processor: Any, rows: Any, *, limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """How often the written answer is right, and loss and token accuracy on the reference answers.

    `vqa_accuracy` is there, and comes first, where every row has three answers or more.
    """
    model.eval()
    size = int(config["per_device_eval_batch_size"])
    length = int(options.get("max_new_tokens") or config.get("max_new_tokens") or 32)
    make = collator(config, processor)
    metrics: dict[str, Any] = language_metrics(
        model, (make(batch) for batch in common.batches(rows, size, limit))
    )
    scored: list[tuple[float, float, float]] = []
    people = []
    for batch in common.batches(rows, size, limit):
        for row, said in zip(batch, answers_of(config, model, processor, batch, length), strict=True):
            right = references(row)
            people.append(len(right))
            scored.append((exact_match(said, right), contains(said, right), vqa_accuracy(said, right)))
    exact, substring, vqa = (sum(column) / len(scored) for column in zip(*scored, strict=True))
    metrics |= {"exact_match": exact, "substring_match": substring, "n_eval": len(scored)}
    if min(people) >= 3:
        metrics["vqa_accuracy"] = vqa
    name = "vqa_accuracy" if "vqa_accuracy" in metrics else "exact_match"
    metrics["primary_metric"] = {"name": name, "value": metrics[name], "higher_is_better": True}
    return metrics


def answers_of(
    config: dict[str, Any], model: Any, processor: Any, rows: list[Any], max_new_tokens: int
) -> list[str]:
    """What the model writes where the rows have their last reply."""
    asked = [conversation(config, row)[:-1] for row in rows]
    texts = [prompt_text(processor, turns) for turns in asked]
    return replies(model, processor, texts, [images_of(row) for row in rows], max_new_tokens)


def sample(
    config: dict[str, Any], model: Any, processor: Any, row: dict[str, Any], index: int
) -> tuple[Any, Any, Any]:
    """The picture, the picture with question and answer below it, and both as text."""
    model.eval()
    said = answers_of(config, model, processor, [row], int(config.get("max_new_tokens") or 32))[0]
    question = plain_content(conversation(config, row)[-2]["content"])
    image = images_of(row)[0]
    meta = {"question": question, "references": references(row), "prediction": said}
    return (
        image,
        captioned(image, [f"Q: {question}", f"A: {said}", f"expected: {meta['references'][0]}"]),
        meta,
    )


def captioned(image: Any, lines: list[str]) -> Any:
    """The picture on white, with lines of text below it."""
    import textwrap

    from PIL import Image, ImageDraw

    width = max(image.width, 320)
    wrapped = [part for line in lines for part in textwrap.wrap(line, width // 7) or [""]]
    page = Image.new("RGB", (width, image.height + 14 * len(wrapped) + 8), "white")
    page.paste(image, (0, 0))
    printable = "\n".join(wrapped).encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(page).multiline_text((4, image.height + 4), printable, fill="black", spacing=2)
    return page
