"""GGUF models that embed."""
