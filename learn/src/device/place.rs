//! Which devices, by name.

use burn::tensor::{Device, DeviceKind, DeviceType};

use crate::{Error, Result};

/// A device that Burn computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The best GPU, or the discrete one of this number.
    Gpu(Option<usize>),
    /// A GPU that software plays on the processor.
    SoftwareGpu,
    /// The processor, by Burn's own loops.
    Flex,
}

impl Place {
    /// Reads `gpu`, `gpu:1`, `software-gpu` or `flex`.
    ///
    /// # Errors
    /// [`Error::Option`] for another name.
    pub fn named(name: &str) -> Result<Self> {
        let unknown = || Error::option("device", "cpu, gpu, gpu:NUMBER, software-gpu or flex", name);
        match name.split_once(':') {
            None if name == "gpu" => Ok(Self::Gpu(None)),
            None if name == "software-gpu" => Ok(Self::SoftwareGpu),
            None if name == "flex" => Ok(Self::Flex),
            Some(("gpu", number)) => Ok(Self::Gpu(Some(number.parse().map_err(|_| unknown())?))),
            _ => Err(unknown()),
        }
    }
}

/// Opens a device; `recompute`: results that are cheap to compute again are not kept for the way back.
///
/// # Errors
/// [`Error::Option`] where there is none of that kind.
pub fn open(place: Place, recompute: bool) -> Result<Device> {
    let kind = match place {
        Place::Flex => None,
        Place::SoftwareGpu => Some(DeviceKind::Cpu),
        Place::Gpu(None) => Some(DeviceKind::DefaultDevice),
        Place::Gpu(Some(number)) => Some(DeviceKind::DiscreteGpu(number)),
    };
    let device = match kind {
        None => Device::flex(),
        Some(kind) => {
            let there = Device::enumerate(DeviceType::Wgpu).into_vec();
            let device = Device::wgpu(kind);
            let is_there = there.contains(&device) || matches!(place, Place::Gpu(None)) && !there.is_empty();
            if !is_there {
                return Err(Error::option("device", format!("one of {there:?}"), format!("{place:?}")));
            }
            device
        }
    };
    let device = device.autodiff();
    Ok(if recompute { device.gradient_checkpointing() } else { device })
}
