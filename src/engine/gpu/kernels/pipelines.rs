//! Compiling pipelines: each distinct shader once, and a few at a time, so that it happens while the weights arrive and
//! its progress can be shown.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;

use wgpu::{
    BindGroupLayout, BindGroupLayoutEntry, ComputePipeline, Device, ErrorFilter, PipelineLayout, ShaderModule,
    ShaderModuleDescriptor,
};

use super::access::cache_layout;
use crate::engine::gpu::context::Context;
use crate::engine::gpu::limits::CACHES_AT_ONCE;
use crate::error::{Error, Result};

/// How many pipelines are compiled at the same time, where the host can do that. Browsers compile with a few threads,
/// and when a load is cancelled the pipelines under way are still finished, so more would only delay that.
const AT_ONCE: usize = 4;

type Compiling = Pin<Box<dyn Future<Output = Result<()>>>>;

/// The text of a shader with its layout, and what it is compiled to.
pub(crate) struct Program {
    label: String,
    text: String,
    has_subgroups: bool,
    device: Device,
    pub bind_group_layout: BindGroupLayout,
    layout: PipelineLayout,
    pipeline: OnceCell<ComputePipeline>,
}

impl Program {
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The pipeline. If it was not compiled beforehand, it is compiled now, which blocks.
    pub fn pipeline(&self) -> &ComputePipeline {
        self.pipeline.get_or_init(|| self.create(&self.module()))
    }

    fn module(&self) -> ShaderModule {
        // In a page the shader has to enable the extension. Natively the device's feature is enough, and naga does not
        // know the extension's name.
        let is_named = cfg!(target_arch = "wasm32") && self.has_subgroups;
        let text = if is_named { format!("enable subgroups;\n{}", self.text) } else { self.text.clone() };
        let source = wgpu::ShaderSource::Wgsl(text.into());
        self.device.create_shader_module(ShaderModuleDescriptor { label: Some(&self.label), source })
    }

    fn create(&self, module: &ShaderModule) -> ComputePipeline {
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&self.label),
            layout: Some(&self.layout),
            module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        })
    }

    /// Starts compiling. An error names the shader.
    fn compile(self: Rc<Self>, context: Rc<Context>) -> Compiling {
        context.count(|c| c.n_objects += 2); // the module and the pipeline
        let Some(compile_ahead) = context.compile_ahead.get() else {
            return Box::pin(async move {
                let make = || {
                    self.pipeline();
                    Ok(())
                };
                context.checked(&format!("`{}`", self.label), make).await
            });
        };
        // errors of the module are caught by a scope, errors of the pipeline by its promise
        let scope = self.device.push_error_scope(ErrorFilter::Validation);
        let module = self.module();
        let said = scope.pop();
        let program = self.clone();
        let ahead = compile_ahead(&self.device, Box::new(move || program.create(&module)));
        Box::pin(async move {
            let wrong = |message: String| Error::WebGpuNotAvailable(format!("`{}`: {message}", self.label));
            if let Some(e) = said.await {
                return Err(wrong(e.to_string()));
            }
            let pipeline = ahead.await.map_err(wrong)?;
            context.check()?;
            self.pipeline.get_or_init(|| pipeline); // keeps the pipeline of a pass that needed it earlier
            Ok(())
        })
    }
}

/// All programs so far, by the text of their shader.
pub(crate) struct Pipelines {
    pub context: Rc<Context>,
    /// Of one cache.
    pub cache_layout: BindGroupLayout,
    /// Of several.
    pub caches_layout: BindGroupLayout,
    programs: RefCell<HashMap<String, Rc<Program>>>,
    /// Programs whose compilation has not started, oldest first.
    waiting: RefCell<VecDeque<Rc<Program>>>,
    /// Compilations that have started, oldest first; at most [`AT_ONCE`].
    under_way: RefCell<VecDeque<Compiling>>,
}

impl Pipelines {
    pub fn new(context: Rc<Context>) -> Self {
        Self {
            cache_layout: cache_layout(&context, 1),
            caches_layout: cache_layout(&context, CACHES_AT_ONCE),
            context,
            programs: RefCell::default(),
            waiting: RefCell::default(),
            under_way: RefCell::default(),
        }
    }

    /// WGSL of the largest value of a workgroup.
    pub fn largest(&self) -> &'static str {
        match self.context.has_subgroups {
            true => include_str!("wgsl/largest_subgroups.wgsl"),
            false => include_str!("wgsl/largest_tree.wgsl"),
        }
    }

    /// WGSL of the best candidate of a workgroup.
    pub fn rank(&self) -> &'static str {
        match self.context.has_subgroups {
            true => include_str!("wgsl/rank_subgroups.wgsl"),
            false => include_str!("wgsl/rank_tree.wgsl"),
        }
    }

    /// How many different programs there are.
    pub fn len(&self) -> usize {
        self.programs.borrow().len()
    }

    /// How many are not known to be compiled yet.
    pub fn n_left(&self) -> usize {
        self.waiting.borrow().len() + self.under_way.borrow().len()
    }

    /// The program of this text, which waits to be compiled if it is new.
    pub fn program(
        &self,
        label: &str,
        text: String,
        entries: impl FnOnce() -> Vec<BindGroupLayoutEntry>,
        n_caches: usize,
    ) -> Rc<Program> {
        if let Some(program) = self.programs.borrow().get(&text) {
            return program.clone();
        }
        let device = self.context.device.clone();
        let (label, entries) = (label.to_string(), entries());
        let bind_group_layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
        let caches = if n_caches == 1 { &self.cache_layout } else { &self.caches_layout };
        let groups = [Some(&bind_group_layout), Some(caches)];
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: if n_caches > 0 { &groups } else { &groups[..1] },
            immediate_size: 0,
        });
        let pipeline = OnceCell::new();
        let has_subgroups = self.context.has_subgroups;
        let program =
            Rc::new(Program { label, text: text.clone(), has_subgroups, device, bind_group_layout, layout, pipeline });
        self.programs.borrow_mut().insert(text, program.clone());
        self.waiting.borrow_mut().push_back(program.clone());
        program
    }

    /// Starts compiling up to [`AT_ONCE`] programs, and waits for none.
    pub fn start(&self) {
        let mut under_way = self.under_way.borrow_mut();
        while under_way.len() < AT_ONCE {
            let Some(program) = self.waiting.borrow_mut().pop_front() else { break };
            under_way.push_back(program.compile(self.context.clone()));
        }
    }

    /// Waits for the next program to be compiled. → `false` if none was left
    ///
    /// # Errors
    /// [`Error::WebGpuNotAvailable`] that names the program, [`Error::DeviceLost`].
    pub async fn next(&self) -> Result<bool> {
        self.start();
        let Some(first) = self.under_way.borrow_mut().pop_front() else { return Ok(false) };
        first.await?;
        self.start();
        Ok(true)
    }

    /// Forgets what is not compiled yet. A pass that records such a program compiles it then.
    pub fn forget(&self) {
        self.waiting.borrow_mut().clear();
        self.under_way.borrow_mut().clear();
    }

    /// Compiles all programs that are left.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn compile(&self) -> Result<()> {
        while self.next().await? {}
        Ok(())
    }
}
