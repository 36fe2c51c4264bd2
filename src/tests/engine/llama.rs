//! llama.cpp, through `hanzod runner`.
