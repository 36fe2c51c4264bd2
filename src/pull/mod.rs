//! Floor 2: bringing models in and out.
