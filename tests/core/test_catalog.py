"""The catalogue and the store: which models are known, and where their files are."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aideon_core import catalog
from aideon_core.config import DEFAULT_LOCAL
from aideon_core.errors import UnknownModel


@pytest.fixture
def model():
    return replace(catalog.MODELS[0], file="tiny.gguf", size=4)


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_the_default_model_comes_first():
    """The default local model is in the catalogue, at its head."""
    assert catalog.MODELS[0] is catalog.find(DEFAULT_LOCAL)


@pytest.mark.parametrize("model", catalog.MODELS, ids=lambda model: model.id)
def test_a_row_is_consistent(model):
    """A row has a whole hash, and its wheels hold exactly its bytes."""
    assert len(bytes.fromhex(model.sha256)) == 32
    assert model.sha256 == model.sha256.lower()
    assert model.file.endswith(".gguf")
    for source in model.sources:
        if isinstance(source, catalog.Wheels):
            parts = len(source.distributions)
            assert (parts - 1) * source.part_size < model.size <= parts * source.part_size


def test_an_unknown_model_names_the_nearest():
    """A misspelt id is answered with the id that was meant."""
    with pytest.raises(UnknownModel, match=r"Did you mean 'gemma-3-270m'\?"):
        catalog.find("Gemma-3-270")


def test_an_unknown_model_names_all_when_none_is_near():
    """An id like no other is answered with the ids there are."""
    with pytest.raises(UnknownModel) as caught:
        catalog.find("gpt")
    assert all(model.id in caught.value.hint for model in catalog.MODELS)


def test_a_file_is_found_by_hash(tmp_path, model):
    """Two models whose files have one name do not overwrite each other."""
    assert catalog.path(tmp_path, model) == tmp_path / "models" / model.sha256[:16] / "tiny.gguf"


@pytest.mark.parametrize(("content", "pulled"), [(b"GGUF", True), (b"GGU", False)])
def test_only_the_whole_file_is_pulled(tmp_path, model, content, pulled):
    """A file of another size is not taken for the model."""
    put(catalog.path(tmp_path, model), content)
    assert catalog.is_pulled(tmp_path, model) is pulled


def test_a_partial_file_is_not_pulled(tmp_path, model):
    """What an interrupted pull left is not taken for the model, even when nothing is missing."""
    put(catalog.path(tmp_path, model).with_name("tiny.gguf.incomplete"), b"GGUF")
    assert not catalog.is_pulled(tmp_path, model)


def test_a_model_can_be_removed(tmp_path, model):
    """Removing a model frees its folder, and says whether there was one."""
    put(catalog.path(tmp_path, model), b"GGUF")
    assert catalog.remove(tmp_path, model)
    assert not catalog.path(tmp_path, model).parent.exists()
    assert not catalog.remove(tmp_path, model)


def test_importing_the_catalogue_is_cheap():
    """Importing the catalogue loads neither an HTTP library nor the Hub's."""
    code = (
        "import sys, aideon_core.catalog;"
        "sys.exit(bool({'httpx2', 'huggingface_hub', 'rich', 'numpy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
