//! The layers of a model that is being made, in order, and what clients are told of each.

use super::{CreateError, CreateEvent};
use crate::store::{Descriptor, MediaType, Pin, Store};
use crate::types::Digest;

pub(super) struct Layers<'a> {
    store: &'a Store,
    layers: Vec<(Descriptor, CreateEvent)>,
    /// Keep the blobs from being collected until the manifest names them.
    pins: Vec<Pin>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, layers: Vec::new(), pins: Vec::new() }
    }

    /// Adds a layer whose blob is in the store.
    pub(super) fn add(&mut self, layer: Descriptor) {
        self.pins.push(self.store.pin(layer.digest));
        let event = CreateEvent::UsingLayer(layer.digest);
        self.layers.push((layer, event));
    }

    /// Adds a layer whose blob was made for this model.
    pub(super) fn made(&mut self, layer: Descriptor) {
        self.pins.push(self.store.pin(layer.digest));
        let event = CreateEvent::CreatingLayer(layer.digest);
        self.layers.push((layer, event));
    }

    /// Adds a layer of this content, unless one of its kind has the same.
    pub(super) fn write(&mut self, kind: MediaType, content: &[u8]) -> Result<(), CreateError> {
        if self.of(&kind).any(|layer| layer.digest == Digest::of(content)) {
            return Ok(());
        }
        let (digest, event) = self.put(content)?;
        let layer = Descriptor::new(kind, digest, content.len() as u64);
        self.layers.push((layer, event));
        Ok(())
    }

    /// Puts a layer of this content, at the end, in the place of those of its kind.
    pub(super) fn replace(&mut self, kind: MediaType, content: &[u8]) -> Result<(), CreateError> {
        self.remove(&kind);
        self.write(kind, content)
    }

    /// Puts a blob that was made for this model in the place of the first layer of its kind, and takes the others out.
    pub(super) fn substitute(&mut self, layer: Descriptor) {
        let kind = layer.media_type.clone();
        let place = self.layers.iter().position(|(old, _)| old.media_type == kind).unwrap_or(self.layers.len());
        self.remove(&kind);
        self.pins.push(self.store.pin(layer.digest));
        let event = CreateEvent::CreatingLayer(layer.digest);
        self.layers.insert(place, (layer, event));
    }

    /// Tells `event` of the last layer of a kind, in place of its own.
    pub(super) fn tell(&mut self, kind: &MediaType, event: &CreateEvent) {
        if let Some((_, told)) = self.layers.iter_mut().rfind(|(layer, _)| layer.media_type == *kind) {
            *told = event.clone();
        }
    }

    pub(super) fn remove(&mut self, kind: &MediaType) {
        self.layers.retain(|(layer, _)| layer.media_type != *kind);
    }

    pub(super) fn of(&self, kind: &MediaType) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().map(|(layer, _)| layer).filter(move |layer| layer.media_type == *kind)
    }

    /// Stores the config, which clients are not told of.
    pub(super) fn config(&mut self, content: &[u8]) -> Result<Descriptor, CreateError> {
        let (digest, _) = self.put(content)?;
        Ok(Descriptor::new(MediaType::Config, digest, content.len() as u64))
    }

    fn put(&mut self, content: &[u8]) -> Result<(Digest, CreateEvent), CreateError> {
        let digest = Digest::of(content);
        self.pins.push(self.store.pin(digest));
        let event = match self.store.blobs().size(&digest) {
            Some(_) => CreateEvent::UsingLayer(digest),
            None => CreateEvent::CreatingLayer(digest),
        };
        self.store.blobs().put(content)?;
        Ok((digest, event))
    }

    /// The layers, what to tell of them, and the pins, to be held until the manifest is written.
    pub(super) fn finish(self) -> (Vec<Descriptor>, Vec<CreateEvent>, Vec<Pin>) {
        let (layers, events) = self.layers.into_iter().unzip();
        (layers, events, self.pins)
    }
}
