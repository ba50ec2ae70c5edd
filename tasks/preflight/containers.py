"""Section 3: container images, by local inspection alone."""

from __future__ import annotations

from blocks.versions import ANOMALYGEN
from tasks.preflight.look import Look
from tasks.preflight.registry import Answer, answer, check

INLINE = "the runtime starts no image"
AMD64_ONLY = (ANOMALYGEN,)


@check("images.uris", 3)
def uris(look: Look) -> Answer:
    """The full name of every image and its key in the versions file."""
    if not look.subject.starts_images:
        return answer("not_applicable", INLINE)
    if not look.images:
        return answer("block", "the runtime starts images, and no image is named for the phases")
    rows = [(image.key, image.uri) for image in look.images]
    return answer("ok", "images by key of the versions file", rows, ("Key", "Image"))


@check("images.present", 3)
def present(look: Look) -> Answer:
    """PRESENT or MISSING on the Docker host; what is missing is pulled after the approval."""
    if not look.subject.starts_images:
        return answer("not_applicable", INLINE)
    if look.docker.error:
        return answer("block", "images cannot be inspected without a Docker daemon")
    rows = [
        (image.key, image.image_id[:19] or "-", "PRESENT" if image.image_id else "MISSING")
        for image in look.images
    ]
    columns = ("Key", "Local image", "Status")
    missing = [image.key for image in look.images if not image.image_id]
    if missing and look.network.offline:
        return answer(
            "block", f"offline, and not on this host: {', '.join(missing)}; load them", rows, columns
        )
    text = f"to be pulled after approval: {', '.join(missing)}" if missing else "all images are here"
    return answer("ok", text, rows, columns)


@check("images.architecture", 3)
def architecture(look: Look) -> Answer:
    """The CPU architecture of the images against the host's."""
    if not look.subject.starts_images:
        return answer("not_applicable", INLINE)
    host = look.architecture
    known = {image.key: image.architecture for image in look.images if image.architecture}
    known |= {image.key: "amd64" for image in look.images if image.key in AMD64_ONLY}
    rows = [(image.key, known.get(image.key, "seen after the pull"), host) for image in look.images]
    columns = ("Key", "CPU architecture", "Host")
    other = [key for key, value in known.items() if value != host]
    if other:
        return answer("block", f"made for another CPU than {host}: {', '.join(other)}", rows, columns)
    return answer("ok", f"nothing that is known differs from {host}", rows, columns)


@check("images.gpu_probe", 3)
def gpu_probe(look: Look) -> Answer:
    """A note: whether an image can use this GPU is only seen inside it."""
    if not look.subject.starts_images:
        return answer("not_applicable", INLINE)
    text = "after approval and pull, first of all; a failure stops the pipeline there (allowed pause)"
    return answer("ok", text, [("GPU probe inside the images", text)])
