//! The head and its loss in chunks of rows, so that logits of [rows, V] are never held for a whole batch; their gradient
//! replaces them in place.

use super::attention::max;
use super::math::{View, ViewMut, Write, exp, product, sum_of, vectorised};

/// A label of this value has no loss, as in PyTorch.
pub const NO_LABEL: i32 = -100;

/// Rows at once. [256, 4096] logits take 4 MB, [256, 50257] 51 MB.
const N_ROWS: usize = 256;

/// Sums over the tokens that have a label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// How many tokens have one.
    pub n_labels: usize,
    /// Σ -ln p(label), nats.
    pub nll: f64,
    /// Σ KL(teacher ‖ student) at the temperature, nats; 0 without a teacher.
    pub kl: f64,
}

impl Sums {
    /// The sums of both.
    pub fn and(self, other: Self) -> Self {
        Self { n_labels: self.n_labels + other.n_labels, nll: self.nll + other.nll, kl: self.kl + other.kl }
    }

    /// Mean cross-entropy, nats per label.
    pub fn cross_entropy(&self) -> f64 {
        self.nll / self.n_labels as f64
    }
}

/// What a distilled student learns from (Hinton et al. 2015, §2): `α CE + (1 - α) T² KL(teacher ‖ student)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softened {
    /// α, the share of the labels.
    pub alpha: f32,
    /// T, which both distributions are flattened by.
    pub temperature: f32,
}

/// A teacher's last hidden states, normed, for the same tokens, and its head.
#[derive(Clone, Copy, Debug)]
pub struct TeacherRows<'a> {
    /// How its distribution counts.
    pub softened: Softened,
    /// [N, C of the teacher]
    pub hidden: &'a [f32],
    /// [V, C of the teacher]
    pub head: &'a [f32],
}

/// Logits and gradients of some rows.
#[derive(Debug, Default)]
pub struct HeadScratch {
    logits: Vec<f32>,
    teacher: Vec<f32>,
}

/// Where gradients go.
#[derive(Debug)]
pub struct HeadGradients<'a> {
    /// Of the hidden states, [N, C]; replaced.
    pub hidden: &'a mut [f32],
    /// Of the head, [V, C]; added to. None where it does not learn.
    pub head: Option<&'a mut [f32]>,
    /// One over the number of labels in the whole batch.
    pub share: f32,
}

/// Loss of every row, and its gradients if asked for. hidden: [N, C], head: [V, C], labels: `[N]`
pub fn loss(
    hidden: &[f32],
    head: &[f32],
    labels: &[i32],
    teacher: Option<TeacherRows>,
    mut gradients: Option<HeadGradients>,
    scratch: &mut HeadScratch,
) -> Sums {
    let c = hidden.len() / labels.len();
    let v = head.len() / c;
    let mut sums = Sums::default();
    for begin in (0..labels.len()).step_by(N_ROWS) {
        let labels = &labels[begin..labels.len().min(begin + N_ROWS)];
        let n = labels.len();
        let rows = begin * c..(begin + n) * c;
        if labels.iter().all(|&label| label == NO_LABEL) {
            if let Some(gradients) = &mut gradients {
                gradients.hidden[rows].fill(0.0);
            }
            continue;
        }
        scratch.logits.resize(n * v, 0.0);
        let x = View::new(&hidden[rows.clone()], n, c);
        product(ViewMut::new(&mut scratch.logits, n, v), Write::Replace, 1.0, x, View::new(head, v, c).t());
        if let Some(teacher) = teacher {
            let c = teacher.head.len() / v;
            scratch.teacher.resize(n * v, 0.0);
            let x = View::new(&teacher.hidden[begin * c..(begin + n) * c], n, c);
            let head = View::new(teacher.head, v, c).t();
            product(ViewMut::new(&mut scratch.teacher, n, v), Write::Replace, 1.0, x, head);
        }
        let share = gradients.as_ref().map(|g| g.share);
        for (i, (row, &label)) in scratch.logits.chunks_exact_mut(v).zip(labels).enumerate() {
            if label == NO_LABEL {
                row.fill(0.0);
                continue;
            }
            sums.n_labels += 1;
            match teacher {
                None => sums.nll += cross_entropy(row, label as usize, share),
                Some(TeacherRows { softened, .. }) => {
                    let (nll, kl) = distil(row, &mut scratch.teacher[i * v..][..v], label as usize, softened, share);
                    sums.nll += nll;
                    sums.kl += kl;
                }
            }
        }
        if let Some(gradients) = &mut gradients {
            let d_logits = View::new(&scratch.logits, n, v);
            let d_hidden = ViewMut::new(&mut gradients.hidden[rows], n, c);
            product(d_hidden, Write::Replace, 1.0, d_logits, View::new(head, v, c));
            if let Some(d_head) = &mut gradients.head {
                product(ViewMut::new(d_head, v, c), Write::Add, 1.0, d_logits.t(), x);
            }
        }
    }
    sums
}

/// -ln p(label) of a row of logits, which its gradient replaces if a share is given.
fn cross_entropy(row: &mut [f32], label: usize, share: Option<f32>) -> f64 {
    let of_label = row[label];
    let (max, sum) = softmax_terms(row, 1.0);
    if let Some(share) = share {
        scale(row, share / sum);
        row[label] -= share;
    }
    f64::from(max) + f64::from(sum).ln() - f64::from(of_label)
}

/// (cross-entropy, KL at the temperature) of a row of logits, which the gradient of their weighted sum replaces. The
/// teacher's row is used up.
fn distil(row: &mut [f32], teacher: &mut [f32], label: usize, s: Softened, share: Option<f32>) -> (f64, f64) {
    let flat = 1.0 / s.temperature;
    let of_label = row[label];
    let mut sharp = row.to_vec(); // softmax at temperature 1
    let (max, sum) = softmax_terms(&mut sharp, 1.0);
    let nll = f64::from(max) + f64::from(sum).ln() - f64::from(of_label);

    let lse = |values: &mut [f32]| {
        let (max, sum) = softmax_terms(values, flat);
        (max * flat + sum.ln(), 1.0 / sum)
    };
    let (logits, teacher_logits) = (row.to_vec(), teacher.to_vec());
    let ((lse_p, share_p), (lse_q, share_q)) = (lse(row), lse(teacher));
    let mut kl = 0.0;
    for i in 0..row.len() {
        let log_ratio = (teacher_logits[i] * flat - lse_q) - (logits[i] * flat - lse_p);
        kl += f64::from(teacher[i] * share_q) * f64::from(log_ratio);
    }
    if let Some(share) = share {
        let (hard, soft) = (share * s.alpha / sum, share * (1.0 - s.alpha) * s.temperature); // T² · 1/T
        for i in 0..row.len() {
            row[i] = hard * sharp[i] + soft * (row[i] * share_p - teacher[i] * share_q);
        }
        row[label] -= share * s.alpha;
    }
    (nll, kl)
}

/// Replaces x by exp((x - max) · flat). → (max, sum)
fn softmax_terms(row: &mut [f32], flat: f32) -> (f32, f32) {
    vectorised(
        #[inline(always)]
        || {
            let max = max(row);
            for x in row.iter_mut() {
                *x = exp((*x - max) * flat);
            }
            (max, sum_of(row.len(), |i| row[i]))
        },
    )
}

fn scale(row: &mut [f32], factor: f32) {
    vectorised(
        #[inline(always)]
        || row.iter_mut().for_each(|x| *x *= factor),
    );
}
