//! The step of `POST /api/create` in which weights are quantised.

use futures_util::{Stream, StreamExt as _};
use tokio::task::spawn_blocking;

use crate::api::error::ApiError;
use crate::create::{NO_DIGEST, Quantization, Quantized};
use crate::engine::{QuantizeSpec, Quantizer};
use crate::store::Store;
use crate::wire::ollama::Progress;

pub enum Step {
    Told(Progress),
    /// The last one.
    Done(Quantized),
}

/// Has it done, and takes the result into the store. Dropping the stream ends the work, and nothing is left of it.
pub fn quantize(
    store: Store,
    quantizer: &Quantizer,
    quantization: Quantization,
) -> impl Stream<Item = Result<Step, ApiError>> + Send + use<> {
    let quantizer = quantizer.clone();
    async_stream::try_stream! {
        let file = store.blobs().ingest_file()?;
        let mut work = Box::pin(quantizer.quantize(QuantizeSpec {
            input: quantization.input().to_vec(),
            output: file.path().to_owned(),
            to: quantization.to(),
        }));
        while let Some(progress) = work.next().await {
            let progress = progress?;
            yield Step::Told(Progress {
                status: quantization.to_string(),
                digest: NO_DIGEST.to_owned(),
                total: progress.total,
                completed: progress.completed,
            });
        }
        yield Step::Told(Progress::status("verifying conversion"));
        let commit = spawn_blocking(move || quantization.commit(&store, file));
        yield Step::Done(commit.await.map_err(ApiError::internal)??);
    }
}
