//! OpenAI's API, as Ollama 0.33 speaks it.
