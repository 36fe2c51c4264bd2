//! Floor 1: content-addressed models on disk, in Ollama's own layout.
