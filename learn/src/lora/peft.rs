//! Adapters in PEFT's files.

use gpt2_web::adapter::{Adapter, CONFIG_FILE, MODULES, WEIGHTS_FILE};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde_json::{Value, json};

use super::config::LoraSettings;
use crate::checkpoint::pretty;
use crate::fused::{LoraLayout, LoraPart};
use crate::{Error, Result};

/// The layout and the parameters of an adapter that was read.
pub fn parameters(adapter: &Adapter, n_layer: usize) -> (LoraLayout, Vec<f32>) {
    let (mut blocks, mut params) = (vec![<[Option<LoraPart>; 4]>::default(); n_layer], Vec::new());
    for part in &adapter.parts {
        let begin = params.len();
        params.extend_from_slice(&part.a);
        let middle = params.len();
        params.extend_from_slice(&part.b);
        if let Some(module) = MODULES.iter().position(|(_, op)| *op == part.op) {
            let (a, b) = (begin..middle, middle..params.len());
            blocks[part.layer][module] = Some(LoraPart { rank: part.rank, a, b, scale: part.scale });
        }
    }
    (LoraLayout { blocks, n_params: params.len() }, params)
}

/// The two files of an adapter, by name, as PEFT saves and loads them. base: what the model is called
///
/// # Errors
/// [`Error::Option`] if a parameter is not finite.
pub fn peft_files(
    settings: &LoraSettings,
    layout: &LoraLayout,
    params: &[f32],
    base: &str,
) -> Result<[(&'static str, Vec<u8>); 2]> {
    let mut tensors = Vec::new();
    for (layer, parts) in layout.blocks.iter().enumerate() {
        for (part, (module, _)) in parts.iter().zip(MODULES).filter_map(|(part, module)| Some((part.as_ref()?, module)))
        {
            let (n_in, n_out) = (part.a.len() / part.rank, part.b.len() / part.rank);
            let name = format!("base_model.model.transformer.h.{layer}.{module}");
            tensors.push((format!("{name}.lora_A.weight"), vec![part.rank, n_in], &params[part.a.clone()]));
            tensors.push((format!("{name}.lora_B.weight"), vec![n_out, part.rank], &params[part.b.clone()]));
        }
    }
    if let Some((name, _, _)) = tensors.iter().find(|(_, _, values)| values.iter().any(|x| !x.is_finite())) {
        return Err(Error::option("adapter", "finite numbers", name));
    }
    let bodies: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, values)| (name, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let unsaved = |e: safetensors::SafeTensorError| Error::option("adapter", "tensors that safetensors can hold", e);
    let views = bodies.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(unsaved)?;
        Ok((name.as_str(), view))
    });
    let format = [("format".to_string(), "pt".to_string())].into();
    let weights = serialize(views.collect::<Result<Vec<_>>>()?, Some(format)).map_err(unsaved)?;
    Ok([(CONFIG_FILE, pretty(&config(settings, base)).into_bytes()), (WEIGHTS_FILE, weights)])
}

/// `adapter_config.json`.
fn config(settings: &LoraSettings, base: &str) -> Value {
    json!({
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": true, // GPT-2's weights are [in, out]
        "inference_mode": true,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": settings.r,
        "target_modules": settings.target_modules,
        "task_type": "CAUSAL_LM",
        "use_rslora": settings.use_rslora,
    })
}
