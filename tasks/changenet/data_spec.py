"""The `dataset` part of the ChangeNet spec (spec changenet 2.3, 3)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.dataset.table import Lighting
from tasks.spec import OptionalReadPath, SpecModel

Probability = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=1)]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD_OF_SCHEMA = (0.226, 0.226, 0.226)
DEFAULT_LIGHTS = {"LowAngleLight": 0, "SolderLight": 1, "UniformLight": 2, "WhiteLight": 3}


class DataSet(SpecModel):
    """One CSV with the folder that its paths start from."""

    csv_path: OptionalReadPath = None
    images_dir: OptionalReadPath = None


class GridMap(SpecModel):
    """How many lightings stand side by side (x) and below each other (y)."""

    x: Size = 2
    y: Size = 2


class RandomFlip(SpecModel):
    """`random_flip`."""

    enable: bool = True
    hflip_probability: Probability = 0.5
    vflip_probability: Probability = 0.5


class RandomRotate(SpecModel):
    """`random_rotate`: angles in degrees; the first three are used."""

    enable: bool = True
    rotate_probability: Probability = 0.5
    angle_list: list[float] = Field([90.0, 180.0, 270.0], min_length=3)


class RandomColor(SpecModel):
    """`random_color`."""

    enable: bool = True
    brightness: Annotated[float, Field(ge=0)] = 0.3
    contrast: Annotated[float, Field(ge=0)] = 0.3
    saturation: Annotated[float, Field(ge=0)] = 0.3
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.3
    color_probability: Probability = 0.5


class Augmentation(SpecModel):
    """`dataset.classify.augmentation_config` (spec changenet 3.5)."""

    augment: bool = False
    random_flip: RandomFlip = RandomFlip()
    random_rotate: RandomRotate = RandomRotate()
    random_color: RandomColor = RandomColor()
    with_scale_random_crop: dict[str, Any] = Field({})
    with_random_crop: bool = False
    with_random_blur: bool = False
    rgb_input_mean: list[float] = Field(list(IMAGENET_MEAN), min_length=3, max_length=3)
    rgb_input_std: list[float] = Field(list(IMAGENET_STD_OF_SCHEMA), min_length=3, max_length=3)


class Data(SpecModel):
    """`dataset.classify`."""

    train_dataset: DataSet = DataSet()
    validation_dataset: DataSet = DataSet()
    test_dataset: DataSet = DataSet()
    infer_dataset: DataSet = DataSet()
    image_ext: str = ".jpg"
    batch_size: Size = 8
    workers: int = 1
    fpratio_sampling: Probability = 0.1
    num_input: Size = 4
    # A text, so that a mapping in the spec file replaces the default instead of being joined to it.
    input_map: dict[str, Any] | Literal["default"] | None = "default"
    concat_type: Literal["linear", "grid"] = "linear"
    grid_map: GridMap = GridMap()
    image_width: Size = 224
    image_height: Size = 224
    num_classes: Literal[2] = 2
    num_golden: Literal[1] = 1
    augmentation_config: Augmentation = Augmentation()

    @property
    def lighting(self) -> Lighting:
        """The lightings in the order of `input_map`, and the image extension."""
        names = DEFAULT_LIGHTS if self.input_map == "default" else self.input_map
        return Lighting(tuple(str(name) for name in names or ()), self.image_ext)

    @property
    def lights(self) -> int:
        """How many images a sample has."""
        return max(1, len(self.lighting.names))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, in pixels, of the joined lightings that the network sees."""
        if self.concat_type == "grid" and self.lights > 1:
            return self.image_height * self.grid_map.y, self.image_width * self.grid_map.x
        return self.image_height * self.lights, self.image_width

    @model_validator(mode="after")
    def _lights_fit(self) -> Data:
        if self.num_input != self.lights:
            raise ValueError(
                f"num_input is {self.num_input} but input_map names {self.lights} lightings; make them agree"
            )
        cells = self.grid_map.x * self.grid_map.y
        if self.concat_type == "grid" and self.lights > 1 and (self.lights % 2 or cells > self.lights):
            raise ValueError(
                f"concat_type grid of {self.grid_map.x} x {self.grid_map.y} needs an even number of at least "
                f"{cells} lightings, input_map has {self.lights}; use concat_type linear or another grid_map"
            )
        return self


class DatasetSection(SpecModel):
    """`dataset`; the block of the segment task is accepted and not used."""

    classify: Data = Data()
    segment: dict[str, Any] = Field({})
