//! Compiling in the background: `createComputePipelineAsync`, which wgpu does not call.
//!
//! wgpu calls `createComputePipeline` alone, and that makes everything which is asked of the GPU later wait: a page
//! freezes, and weights that arrive meanwhile are stuck. So the first time its call ends here, which tells the
//! descriptor; it is compiled in the background; and the second time the finished pipeline is its answer.

use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wgpu::{ComputePipeline, Device};

use crate::engine::gpu::CompilingPipeline;

const SYNC: &str = "createComputePipeline";
const ASYNC: &str = "createComputePipelineAsync";

/// A [`CompileAhead`](crate::engine::gpu::CompileAhead) for a page.
pub(super) fn compile_ahead(device: &Device, create: Box<dyn Fn() -> ComputePipeline>) -> CompilingPipeline {
    let begun = begin(device, &*create);
    Box::pin(async move {
        let (device, compiled) = begun.map_err(|e| text(&e))?;
        let pipeline = compiled.await.map_err(|e| text(&e))?;
        instead(&device, move |_| pipeline.clone(), &*create).map_err(|e| text(&e))
    })
}

/// Begins to compile what `create` creates.
fn begin(device: &Device, create: &dyn Fn() -> ComputePipeline) -> Result<(Object, JsFuture), JsValue> {
    let Some(device) = device.as_webgpu() else { return Err("the device is not the browser's".into()) };
    let device: Object = AsRef::<JsValue>::as_ref(device).clone().unchecked_into();
    let (tell, told) = std::sync::mpsc::channel();
    let keep = move |descriptor: JsValue| match tell.send(descriptor) {
        Ok(()) => Object::new().into(), // in the place of a pipeline: it is dropped unused
        Err(e) => JsValue::from(e.to_string()),
    };
    instead(&device, keep, create)?;
    let descriptor = told.try_recv().map_err(|e| JsValue::from(format!("{SYNC} was not called: {e}")))?;
    let compile: Function = Reflect::get(&device, &ASYNC.into())?.dyn_into()?;
    let promise: Promise = compile.call1(&device, &descriptor)?.dyn_into()?;
    Ok((device, JsFuture::from(promise))) // listens from now on: a rejection that nobody hears would be a crash
}

/// Calls `create` with `answer` in the place of the device's own `createComputePipeline`.
fn instead(
    device: &Object,
    answer: impl Fn(JsValue) -> JsValue + 'static,
    create: &dyn Fn() -> ComputePipeline,
) -> Result<ComputePipeline, JsValue> {
    let answer = Closure::wrap(Box::new(answer) as Box<dyn Fn(JsValue) -> JsValue>);
    Reflect::set(device, &SYNC.into(), answer.as_ref())?; // a property of this device, before its class's
    let pipeline = create();
    Reflect::delete_property(device, &SYNC.into())?;
    Ok(pipeline)
}

/// What an exception says.
fn text(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => error.as_string().unwrap_or_else(|| format!("{error:?}")),
    }
}
