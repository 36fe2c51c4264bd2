//! Floor 4: which models are resident.
