//! A run's curves as a picture: losses, learning rate and gradient norm over the steps.

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use super::Line;
use crate::checkpoint::write_whole;
use crate::{Error, Result};

const SIZE: (u32, u32) = (900, 720);
const LEARNT: RGBColor = RGBColor(150, 170, 200);
const HELD_OUT: RGBColor = RGBColor(200, 60, 30);

/// The share of a step in the running mean of the losses and norms that are drawn.
const MEAN_SHARE: f64 = 0.05;

/// About how many points of a curve are drawn: the picture is not wider.
const N_POINTS: usize = 800;

/// Points of one curve, (step, value).
type Curve = Vec<(f64, f64)>;

/// Draws the lines of a log as SVG. Loss and gradient norm of single steps are noise, so their running mean is drawn.
///
/// # Errors
/// [`Error::File`] for a log without two steps.
pub fn draw(lines: &[Line], path: &Path) -> Result<()> {
    let (mut learnt, mut held_out, mut rates, mut norms) = (Curve::new(), Curve::new(), Curve::new(), Curve::new());
    let mean = |curve: &Curve, value: f64| match curve.last() {
        Some((_, before)) => before + MEAN_SHARE * (value - before),
        None => value,
    };
    for line in lines {
        match *line {
            Line::Step { step, loss, rate, grad_norm } => {
                let at = step as f64;
                learnt.push((at, mean(&learnt, loss)));
                rates.push((at, rate));
                norms.push((at, mean(&norms, grad_norm)));
            }
            Line::HeldOut { step, held_out: loss } => held_out.push((step as f64, loss)),
        }
    }
    if learnt.len() < 2 {
        return Err(Error::file(path, "a run of at least two steps", learnt.len().to_string()));
    }
    let mut svg = String::new();
    let failed = |e: &dyn Display| Error::file(path, "curves that can be drawn", e.to_string());
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|e| failed(&e))?;
        let (losses, rest) = root.split_vertically(SIZE.1 / 2);
        let (rate, norm) = rest.split_vertically(SIZE.1 / 4);
        let loss_curves = [(LEARNT, "learnt", learnt), (HELD_OUT, "held out", held_out)];
        panel(&losses, "loss, nats per token", &loss_curves, false).map_err(|e| failed(&e))?;
        panel(&rate, "learning rate", &[(LEARNT, "", rates)], true).map_err(|e| failed(&e))?;
        panel(&norm, "gradient norm", &[(LEARNT, "", norms)], true).map_err(|e| failed(&e))?;
        root.present().map_err(|e| failed(&e))?;
    }
    write_whole(path, svg.as_bytes())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// One diagram. Each curve has its colour and its name in the legend, which is there where one has a name.
fn panel<'a>(
    area: &Area<'a>,
    title: &str,
    curves: &[(RGBColor, &str, Curve)],
    from_zero: bool,
) -> std::result::Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
    let points = || curves.iter().flat_map(|(_, _, curve)| curve);
    let x = extent(points().map(|point| point.0));
    let y = extent(points().map(|point| point.1));
    let low = if from_zero { 0.0 } else { y.start };
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(25)
        .y_label_area_size(70)
        .caption(title, ("sans-serif", 15))
        .build_cartesian_2d(x, low..y.end)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).x_labels(8).y_labels(5).x_label_formatter(&|step| format!("{step:.0}"));
    mesh.y_label_formatter(&|value| format!("{value}")).draw()?;
    for (color, name, curve) in curves {
        let drawn = chart.draw_series(LineSeries::new(thinned(curve), color.stroke_width(2)))?;
        if !name.is_empty() {
            let color = *color;
            drawn.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
        }
    }
    if curves.iter().any(|(_, name, _)| !name.is_empty()) {
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    }
    Ok(())
}

/// Some of the points, the first and the last among them.
fn thinned(curve: &Curve) -> impl Iterator<Item = (f64, f64)> + '_ {
    let every = curve.len().div_ceil(N_POINTS);
    let is_drawn = move |i: &usize| i.is_multiple_of(every) || i + 1 == curve.len();
    curve.iter().enumerate().filter(move |(i, _)| is_drawn(i)).map(|(_, point)| *point)
}

/// From the least to the largest, and never empty.
fn extent(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    least..if most > least { most } else { least + 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_curve() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curve.svg");
        let step = |step: u64| Line::Step { step, loss: 5.0 - step as f64, rate: 0.1, grad_norm: 1.0 };
        let lines = [
            step(1),
            step(2),
            Line::HeldOut { step: 2, held_out: 3.0 },
            step(3),
            Line::HeldOut { step: 3, held_out: 2.0 },
        ];
        draw(&lines, &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for words in ["loss, nats per token", "learnt", "held out", "learning rate", "gradient norm"] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(svg.matches("<polyline").count() >= 4, "{svg}");
        assert!(matches!(draw(&lines[..1], &path), Err(Error::File { .. })));
    }
}
