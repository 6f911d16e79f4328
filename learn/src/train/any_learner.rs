//! What learns in a run: the processor's own passes, or Burn's devices.

use std::borrow::Cow;

use super::{Batch, Learner, Settings, State, StepPhases, StepReport};
#[cfg(feature = "burn")]
use crate::device::{DeviceLearner, Place, open};
use crate::fused::{Model, Rows, Sums, Teacher};
use crate::{Error, Result};

/// What learns in a run.
#[derive(Debug)]
pub enum AnyLearner {
    /// On the processor.
    Own(Box<Learner>),
    /// On Burn's devices.
    #[cfg(feature = "burn")]
    Devices(Box<DeviceLearner>, StepPhases),
}

impl AnyLearner {
    /// What the settings ask for, going on from `state`.
    ///
    /// # Errors
    /// [`Error::Option`] for a device that is not there, or that lacks what is asked for.
    pub fn new(model: Model, settings: &Settings, state: State) -> Result<Self> {
        match settings.device.as_str() {
            "cpu" => Ok(Self::Own(Box::new(Learner::new(model, settings.recipe(), state)))),
            names => Self::on_devices(model, settings, state, names),
        }
    }

    #[cfg(feature = "burn")]
    fn on_devices(model: Model, settings: &Settings, state: State, names: &str) -> Result<Self> {
        let device = |name: &str| open(Place::named(name.trim())?, settings.recompute);
        let devices = names.split(',').map(device).collect::<Result<Vec<_>>>()?;
        let Settings { precision, read_every, .. } = *settings;
        let learner = DeviceLearner::new(model, settings.recipe(), &state, &devices, precision, read_every)?;
        Ok(Self::Devices(Box::new(learner), StepPhases::default()))
    }

    #[cfg(not(feature = "burn"))]
    fn on_devices(_: Model, _: &Settings, _: State, names: &str) -> Result<Self> {
        Err(Error::option("device", "cpu, since this program was built without Burn (--features burn)", names))
    }

    /// Steps done.
    pub fn step_number(&self) -> u64 {
        match self {
            Self::Own(learner) => learner.state.step,
            #[cfg(feature = "burn")]
            Self::Devices(learner, _) => learner.step_number(),
        }
    }

    /// One step on the rows of all batches together. → what this step and earlier ones showed whose losses came back
    ///
    /// # Errors
    /// [`Error::Diverged`]; [`Error::Option`] for a teacher on Burn's devices.
    pub fn step(&mut self, batches: &[Batch], teacher: Option<Teacher>) -> Result<Vec<StepReport>> {
        match self {
            Self::Own(learner) => Ok(vec![learner.step(batches, teacher)?]),
            #[cfg(feature = "burn")]
            Self::Devices(_, _) if teacher.is_some() => {
                Err(Error::option("device", "cpu, where a model learns from a teacher", "another one"))
            }
            #[cfg(feature = "burn")]
            Self::Devices(learner, phases) => {
                let began = web_time::Instant::now();
                let reports = learner.step(batches);
                phases.devices += began.elapsed();
                reports
            }
        }
    }

    /// What steps showed whose losses have not come back yet.
    ///
    /// # Errors
    /// [`Error::Diverged`]
    pub fn read(&mut self) -> Result<Vec<StepReport>> {
        match self {
            Self::Own(_) => Ok(Vec::new()),
            #[cfg(feature = "burn")]
            Self::Devices(learner, _) => learner.read(),
        }
    }

    /// The loss of some rows with what has been learnt so far.
    ///
    /// # Errors
    /// What a device says.
    pub fn loss(&mut self, rows: Rows, rows_at_once: usize) -> Result<Sums> {
        match self {
            Self::Own(learner) => Ok(learner.loss(rows)),
            #[cfg(feature = "burn")]
            Self::Devices(learner, _) => learner.loss(rows, rows_at_once),
        }
    }

    /// All that a checkpoint has to hold.
    pub fn state(&self) -> Cow<'_, State> {
        match self {
            Self::Own(learner) => Cow::Borrowed(&learner.state),
            #[cfg(feature = "burn")]
            Self::Devices(learner, _) => Cow::Owned(learner.state()),
        }
    }

    /// Where the time went.
    pub fn phases(&mut self) -> &mut StepPhases {
        match self {
            Self::Own(learner) => &mut learner.phases,
            #[cfg(feature = "burn")]
            Self::Devices(_, phases) => phases,
        }
    }

    /// Keeps these parameters at 0 from now on.
    ///
    /// # Errors
    /// [`Error::Option`] on Burn's devices.
    pub fn keep_zeros(&mut self, zeros: Vec<usize>) -> Result<()> {
        match self {
            Self::Own(learner) => {
                learner.zeros = zeros;
                Ok(())
            }
            #[cfg(feature = "burn")]
            Self::Devices(_, _) => Err(Error::option("device", "cpu, where pruned weights stay 0", "another one")),
        }
    }
}
