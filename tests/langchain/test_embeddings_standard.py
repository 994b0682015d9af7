"""LangChain's own conformance tests for embeddings, on both sides."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from langchain_aideon.embeddings import AideonEmbeddings

BGE = "BAAI/bge-base-en-v1.5"


class TestUnit(EmbeddingsUnitTests):
    """AideonEmbeddings is the embeddings LangChain expects, with its key from the environment."""

    @property
    def embeddings_class(self):
        return AideonEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": BGE}

    @property
    def init_from_env_params(self):
        return {"TOGETHER_API_KEY": "from-env"}, {"model": BGE}, {"api_key": "from-env"}


class TestCloud(EmbeddingsIntegrationTests):
    """AideonEmbeddings embeds as LangChain expects, in the cloud."""

    @property
    def embeddings_class(self):
        return AideonEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": BGE, "policy": "cloud-only", "max_retries": 0}

    @pytest.fixture
    async def model(self, together_env):
        model = AideonEmbeddings(**self.embedding_model_params)
        yield model
        await model._async_client.close()


class TestLocal(EmbeddingsIntegrationTests):
    """AideonEmbeddings embeds as LangChain expects, from a file."""

    @property
    def embeddings_class(self):
        return AideonEmbeddings

    @pytest.fixture
    def model(self, tmp_path):
        from ..core.test_embed_local import write_bert  # noqa: TID252 - tests are not installed

        write_bert(tmp_path / "bert.gguf")
        return AideonEmbeddings(model=str(tmp_path / "bert.gguf"), policy="local-only")


class TestRealModel(EmbeddingsIntegrationTests):
    """AideonEmbeddings embeds as LangChain expects, with a model that knows English."""

    @property
    def embeddings_class(self):
        return AideonEmbeddings

    @pytest.fixture
    def model(self):
        from ..core.test_embed_local import MINILM  # noqa: TID252 - tests are not installed

        if not MINILM.exists():
            pytest.skip("the shared model is not here")
        return AideonEmbeddings(model=str(MINILM), policy="local-only")
