//! `POST /api/hanzod/verify`: blobs read through, with progress, and what was found.

use axum::extract::State;
use axum::response::Response;

use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError};
use crate::api::extract::Ollama;
use crate::api::names;
use crate::api::progress::{Teller, working};
use crate::store::{Finding, Verified, VerifyStep};
use crate::wire::hanzod::{Damaged, VerifyLine, VerifyRequest};
use crate::wire::ollama::Progress;

pub async fn verify(
    State(state): State<AppState>,
    Ollama(request): Ollama<VerifyRequest>,
) -> Result<Response, OllamaError> {
    let model = match request.model.is_empty() {
        true => None,
        false => Some(names::model(&request.model, || ApiError::invalid("model is required"))?),
    };
    let repair = request.repair;
    let work = move |teller: &mut Teller<VerifyLine>| {
        let mut tell = |step: VerifyStep| teller.step(step.completed, step.total, || VerifyLine::Step(progress(&step)));
        let verified = state.store.verify(model.as_ref(), repair, &mut tell)?;
        teller.tell(found(verified));
        Ok(())
    };
    Ok(working(request.stream.unwrap_or(true), work).await)
}

fn progress(step: &VerifyStep) -> Progress {
    Progress {
        status: format!("verifying {}", step.digest.short()),
        digest: step.digest.to_string(),
        total: step.total,
        completed: step.completed,
    }
}

fn found(verified: Verified) -> VerifyLine {
    let damaged = |finding: Finding| Damaged {
        digest: finding.digest.map(|digest| digest.to_string()),
        why: finding.why,
        models: finding.models.iter().map(crate::types::ModelName::short).collect(),
        moved: finding.moved,
    };
    let damaged: Vec<Damaged> = verified.findings.into_iter().map(damaged).collect();
    let status = if damaged.is_empty() { "success" } else { "damage found" };
    VerifyLine::Done { status, right: verified.right, bytes: verified.bytes, damaged }
}
