//! The CUDA backend as a [`Subject`] of the shared properties.

use inbatch::Result;
use inbatch::cuda::{self, InBatchLoss, MemoryBank, View};

use crate::common::case::{Case, Items};
use crate::common::subject::{GradientResults, Results, Subject, narrow, widen};
use crate::support::{Gpu, Real, Slice};
use crate::with_dtype;

/// One loss object for all cases of a property, as a trainer has: what an earlier call left in the workspace must
/// not matter.
pub(crate) struct Cuda<'g> {
    gpu: &'g Gpu,
    loss: Option<InBatchLoss>,
    tensor_cores: bool,
}

enum Call<'a> {
    Evaluate,
    Step,
    Halves(Option<&'a [f32]>),
}

/// A slice that may be empty, which the driver does not allocate: one element of NaN follows the values.
struct Padded<T> {
    slice: Slice<T>,
    len: usize,
}

impl<T: Real> Padded<T> {
    fn new(gpu: &Gpu, values: &[T], padding: T) -> Self {
        let padded = [values, &[padding]].concat();
        Self { slice: gpu.device.stream().clone_htod(&padded).unwrap(), len: values.len() }
    }

    fn poisoned(gpu: &Gpu, len: usize) -> Self {
        let poison = T::from_f32(f32::NAN);
        Self::new(gpu, &vec![poison; len], poison)
    }

    fn view(&self) -> cudarc::driver::CudaView<'_, T> {
        self.slice.slice(..self.len)
    }

    fn view_mut(&mut self) -> cudarc::driver::CudaViewMut<'_, T> {
        self.slice.slice_mut(..self.len)
    }

    fn read(&self, gpu: &Gpu) -> Vec<T> {
        let mut values = gpu.device.stream().clone_dtoh(&self.slice).unwrap();
        assert!(values.pop().unwrap().to_f32().is_nan(), "written beyond the end");
        values
    }
}

/// Item embeddings with their fields, in device memory.
struct DeviceItems<T> {
    embeddings: Padded<T>,
    log_q: Option<Padded<f32>>,
    item_ids: Option<(Slice<i64>, usize)>,
}

impl<T: Real> DeviceItems<T> {
    fn new(gpu: &Gpu, items: &Items) -> Self {
        let ids = |ids: &Vec<i64>| {
            let padded = [&ids[..], &[i64::MIN]].concat();
            (gpu.device.stream().clone_htod(&padded).unwrap(), ids.len())
        };
        Self {
            embeddings: Padded::new(gpu, &narrow::<T>(&items.embeddings), T::from_f32(f32::NAN)),
            log_q: items.log_q.as_ref().map(|log_q| Padded::new(gpu, log_q, f32::NAN)),
            item_ids: items.item_ids.as_ref().map(ids),
        }
    }

    fn borrow(&self) -> cuda::Items<'_, T> {
        let mut items = cuda::Items::new(self.embeddings.view());
        if let Some(log_q) = &self.log_q {
            items = items.log_q(log_q.view());
        }
        if let Some((ids, len)) = &self.item_ids {
            items = items.item_ids(ids.slice(..*len));
        }
        items
    }
}

impl<'g> Cuda<'g> {
    pub(crate) fn new(gpu: &'g Gpu) -> Self {
        Self { gpu, loss: None, tensor_cores: true }
    }

    /// Whether 16-bit embeddings may go through tensor cores from now on.
    pub(crate) fn allow_tensor_cores(&mut self, allowed: bool) {
        self.tensor_cores = allowed;
    }

    /// Overwrites what earlier calls left in the workspace.
    pub(crate) fn poison(&mut self) {
        self.loss.iter_mut().for_each(|loss| loss.poison_workspace().unwrap());
    }

    fn loss(&mut self, case: &Case) -> Result<&mut InBatchLoss> {
        if self.loss.is_none() {
            self.loss = Some(InBatchLoss::new(&self.gpu.device, case.config)?);
        }
        let loss = self.loss.as_mut().expect("just made");
        loss.set_config(case.config)?;
        loss.tensor_cores(self.tensor_cores);
        Ok(loss)
    }

    fn run<T: Real, G: Real>(&mut self, case: &Case, call: Call<'_>) -> Result<Results> {
        let gpu = self.gpu;
        let stream = gpu.device.stream();
        let users = stream.clone_htod(&narrow::<T>(&case.users)).unwrap();
        let items = DeviceItems::<T>::new(gpu, &case.items);
        let extra = case.extra.as_ref().map(|extra| DeviceItems::<T>::new(gpu, extra));
        let own = case.row_negatives.as_ref();
        let own_items = own.map(|negatives| DeviceItems::<T>::new(gpu, &negatives.items));
        // An empty slice is not allocated: one index more than there are.
        let indices = own.and_then(|negatives| negatives.indices.as_ref()).map(|indices| {
            let padded = [&indices[..], &[i32::MAX]].concat();
            (stream.clone_htod(&padded).unwrap(), indices.len())
        });
        let user_log_q = case.user_log_q.as_ref().map(|log_q| stream.clone_htod(log_q).unwrap());
        let user_ids = case.user_ids.as_ref().map(|ids| stream.clone_htod(ids).unwrap());
        let weights = case.weights.as_ref().map(|weights| stream.clone_htod(weights).unwrap());
        let pushes: Vec<DeviceItems<T>> =
            case.bank.iter().flat_map(|bank| &bank.pushes).map(|push| DeviceItems::new(gpu, push)).collect();
        let mut bank = match &case.bank {
            Some(bank) => Some(MemoryBank::<T>::new(&gpu.device, bank.config)?),
            None => None,
        };
        let push_all = |bank: &mut Option<MemoryBank<T>>| -> Result<()> {
            let Some(bank) = bank else { return Ok(()) };
            pushes.iter().try_for_each(|push| bank.push(&push.borrow()))
        };
        push_all(&mut bank)?;
        let mut d_users = Padded::<G>::poisoned(gpu, case.users.len());
        let mut d_items = Padded::<G>::poisoned(gpu, case.items.embeddings.len());
        let extra_len = case.extra.as_ref().map_or(0, |extra| extra.embeddings.len());
        let mut d_extra = Padded::<G>::poisoned(gpu, extra_len);
        let own_len = own.map_or(0, |negatives| negatives.items.embeddings.len());
        let mut d_own = Padded::<G>::poisoned(gpu, own_len);
        let mut d_own_log_q = Padded::<f32>::poisoned(gpu, own_len / case.dim);
        let mut d_log_q = Padded::<f32>::poisoned(gpu, case.batch_columns());
        let mut d_extra_log_q = Padded::<f32>::poisoned(gpu, case.extra_columns());
        let mut d_user_log_q = Padded::<f32>::poisoned(gpu, case.rows());
        // Borrows the bank afresh each time: a push may stand between two of them.
        macro_rules! batch {
            () => {{
                let mut batch =
                    cuda::Batch::new(&users, items.embeddings.view(), case.dim).offset(case.offset);
                if let Some(log_q) = &items.log_q {
                    batch = batch.log_q(log_q.view());
                }
                if let Some((ids, len)) = &items.item_ids {
                    batch = batch.item_ids(ids.slice(..*len));
                }
                if let Some(user_log_q) = &user_log_q {
                    batch = batch.user_log_q(user_log_q);
                }
                if let Some(user_ids) = &user_ids {
                    batch = batch.user_ids(user_ids);
                }
                if let Some(weights) = &weights {
                    batch = batch.weights(weights);
                }
                if let Some(extra) = &extra {
                    batch = batch.extra(extra.borrow());
                }
                if let (Some(items), Some(negatives)) = (&own_items, own) {
                    batch = batch.row_negatives(match &indices {
                        Some((indices, len)) => {
                            let indices = indices.slice(..*len);
                            cuda::RowNegatives::of_pool(items.borrow(), indices, negatives.per_row)
                        }
                        None => cuda::RowNegatives::new(items.borrow(), negatives.per_row),
                    });
                }
                if let Some(bank) = &bank {
                    batch = batch.bank(bank);
                }
                batch
            }};
        }
        let loss = self.loss(case)?;
        let mut gradients = cuda::Gradients::new(d_users.view_mut(), d_items.view_mut());
        if case.wants_extra_gradient {
            gradients = gradients.extra(d_extra.view_mut());
        }
        if case.wants_log_q() {
            gradients = gradients.log_q(d_log_q.view_mut());
        }
        if case.wants_extra_log_q() {
            gradients = gradients.extra_log_q(d_extra_log_q.view_mut());
        }
        if case.wants_user_log_q() {
            gradients = gradients.user_log_q(d_user_log_q.view_mut());
        }
        if case.wants_row_negatives_gradient {
            gradients = gradients.row_negatives(d_own.view_mut());
        }
        if case.wants_row_negatives_log_q() {
            gradients = gradients.row_negatives_log_q(d_own_log_q.view_mut());
        }
        let wants_gradients = !matches!(call, Call::Evaluate);
        let output = match call {
            Call::Evaluate => loss.evaluate(&batch!())?,
            Call::Step => loss.step(&batch!(), &mut gradients)?,
            Call::Halves(upstream) => {
                loss.forward(&batch!())?;
                push_all(&mut bank)?;
                let upstream = upstream.map(|values| stream.clone_htod(values).unwrap());
                loss.backward(&batch!(), upstream.as_ref().map(View::from), &mut gradients)?
            }
        };
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        let mut results = Results {
            loss: output.loss().ok().map(f64::from),
            row_losses: wide(output.row_losses()?),
            log_sum_exp: wide(output.log_sum_exp()?),
            metrics: output.metrics().ok(),
            gradients: None,
        };
        if wants_gradients {
            let inverse_temperature = f64::from(output.d_inverse_temperature()?);
            let bias = output.d_bias().ok().map(f64::from);
            results.gradients = Some(GradientResults {
                inverse_temperature,
                users: widen(&d_users.read(gpu)),
                items: widen(&d_items.read(gpu)),
                extra: case.wants_extra_gradient.then(|| widen(&d_extra.read(gpu))),
                row_negatives: case.wants_row_negatives_gradient.then(|| widen(&d_own.read(gpu))),
                log_q: [
                    case.wants_log_q().then(|| widen(&d_log_q.read(gpu))),
                    case.wants_extra_log_q().then(|| widen(&d_extra_log_q.read(gpu))),
                    case.wants_user_log_q().then(|| widen(&d_user_log_q.read(gpu))),
                    case.wants_row_negatives_log_q().then(|| widen(&d_own_log_q.read(gpu))),
                ],
                bias,
            });
        }
        Ok(results)
    }

    fn dispatch(&mut self, case: &Case, call: Call<'_>) -> Result<Results> {
        with_dtype!(case.dtype, T, with_dtype!(case.gradient_dtype, G, self.run::<T, G>(case, call)))
    }
}

impl Subject for Cuda<'_> {
    fn evaluate(&mut self, case: &Case) -> Result<Results> {
        self.dispatch(case, Call::Evaluate)
    }

    fn step(&mut self, case: &Case) -> Result<Results> {
        self.dispatch(case, Call::Step)
    }

    fn forward_backward(&mut self, case: &Case, upstream: Option<&[f32]>) -> Result<Results> {
        self.dispatch(case, Call::Halves(upstream))
    }
}
