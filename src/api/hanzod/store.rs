//! What takes the room, and making more of it.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;

use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError, json};
use crate::api::extract::Ollama;
use crate::api::models::blocking;
use crate::go::duration::GoDuration;
use crate::store::{Loose, LooseKind, PruneRules, StoreError};
use crate::wire::hanzod::{Disk, LooseFile, ModelRoom, PruneRequest, PruneResponse, Room};
use crate::wire::time;

pub async fn df(State(state): State<AppState>) -> Result<Response, OllamaError> {
    let usage = blocking(move || Ok::<_, StoreError>(state.store.usage())).await?;
    let model = |model: crate::store::ModelUsage| ModelRoom {
        name: model.name.short(),
        digest: model.digest.hex(),
        size: model.size,
        own: model.own,
        elsewhere: model.elsewhere,
        missing: model.missing,
    };
    Ok(json(&Room {
        models: usage.models.into_iter().map(model).collect(),
        used: usage.used,
        shared: usage.shared,
        linked: usage.linked,
        elsewhere: usage.elsewhere,
        loose: usage.loose.iter().map(loose).collect(),
        unsure: usage.unsure,
        disk: usage.disk.map(|(size, free)| Disk { size, free }),
    }))
}

fn loose(loose: &Loose) -> LooseFile {
    LooseFile {
        kind: match loose.kind {
            LooseKind::Blob => "blob",
            LooseKind::Partial => "partial",
            LooseKind::Temporary => "temporary",
            LooseKind::Damaged => "damaged",
            LooseKind::Prompt => "prompt",
        },
        digest: loose.digest.as_ref().map(ToString::to_string),
        size: loose.size,
        modified_at: time::local(loose.modified),
        held: loose.held,
    }
}

pub async fn prune(
    State(state): State<AppState>,
    Ollama(request): Ollama<PruneRequest>,
) -> Result<Response, OllamaError> {
    let mut rules = PruneRules { dry_run: request.dry_run, ..PruneRules::default() };
    if !request.partials_older_than.is_empty() {
        rules.partial_life = age(&request.partials_older_than)?;
    }
    let pruned = blocking(move || Ok::<_, StoreError>(state.store.prune(&rules))).await?;
    let removed = pruned.removed.iter().map(loose).collect();
    Ok(json(&PruneResponse { removed, freed: pruned.freed, kept: pruned.kept, dry_run: rules.dry_run }))
}

/// A duration as Go writes them, or a number of days: `7d`.
fn age(text: &str) -> Result<Duration, ApiError> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let read = match days {
        Some(days) => Some(Duration::from_secs(u64::from(days) * 24 * 60 * 60)),
        None => GoDuration::parse(text).ok().and_then(|duration| duration.to_std()),
    };
    read.ok_or_else(|| ApiError::Invalid(format!("{text:?} is no age such as 7d, 12h or 0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, hours) in [("7d", 168), ("12h", 12), ("0", 0), ("1h30m30m", 2)] {
            assert_eq!(age(text), Ok(Duration::from_secs(hours * 3600)), "{text}");
        }
        for bad in ["", "7", "d", "-7d", "-1h", "1.5d", "week", "99999999999d"] {
            assert!(age(bad).is_err(), "{bad}");
        }
    }
}
