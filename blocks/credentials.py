"""Keys of outside services, kept encrypted on the Prefect server and handed to containers by name."""

from __future__ import annotations

import re

from prefect.blocks.core import Block
from prefect.types import SecretDict
from pydantic import Field, SecretStr, field_validator


class Credentials(Block):
    """The keys that actions need where they fetch gated weights, read a bucket or report a training.

    Attributes:
        owner: Whose keys these are.
        ngc_key: Key of NVIDIA's registry.
        hf_token: Token of the Hugging Face hub.
        aws_access_key_id: Access key of an S3 bucket.
        aws_secret_access_key: Its secret.
        wandb_api_key: Key of Weights & Biases.
        extra: Others, by the name of their environment variable.

    Example:
        Load saved credentials:
        ```python
        from blocks.credentials import Credentials

        credentials = Credentials.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Credentials"
    _block_type_slug = "credentials"
    _description = "Keys of outside services; given to actions as environment variables, never shown."

    owner: str = Field(
        title="Owner",
        min_length=1,
        description="Whose keys these are: whom to ask when one has expired.",
        examples=["vision team, line 3"],
    )
    ngc_key: SecretStr | None = Field(
        default=None, title="NGC key", description="Key of NVIDIA's registry, given on as NGC_KEY."
    )
    hf_token: SecretStr | None = Field(
        default=None, title="Hugging Face token", description="For gated weights, given on as HF_TOKEN."
    )
    aws_access_key_id: SecretStr | None = Field(
        default=None, title="AWS access key", description="Of an S3 bucket, given on as AWS_ACCESS_KEY_ID."
    )
    aws_secret_access_key: SecretStr | None = Field(
        default=None, title="AWS secret key", description="Its secret, given on as AWS_SECRET_ACCESS_KEY."
    )
    wandb_api_key: SecretStr | None = Field(
        default=None, title="Weights & Biases key", description="Given on as WANDB_API_KEY."
    )
    # Not a dict of SecretStr: the API would show what is in it.
    extra: SecretDict = Field(
        default=SecretDict({}),
        title="Others",
        description="More keys, by the name of their environment variable.",
    )

    @field_validator("extra")
    @classmethod
    def _named_as_variables(cls, extra: SecretDict) -> SecretDict:
        for name, key in extra.get_secret_value().items():
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} cannot be the name of an environment variable")
            if not isinstance(key, str):
                raise ValueError(f"{name} must be text")
        return extra

    def environment(self) -> dict[str, str]:
        """The keys that are set, in clear, by the name of their environment variable."""
        named = {
            "NGC_KEY": self.ngc_key,
            "HF_TOKEN": self.hf_token,
            "AWS_ACCESS_KEY_ID": self.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.aws_secret_access_key,
            "WANDB_API_KEY": self.wandb_api_key,
        }
        clear = {name: key.get_secret_value() for name, key in named.items() if key is not None}
        return {name: key for name, key in {**clear, **self.extra.get_secret_value()}.items() if key}
