//! Floor 0: other people's words: serde shapes and their quirks, nothing else.
