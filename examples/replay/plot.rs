//! The picture that explains the crate: memory over the requests, of the store and of a map.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::compare::{Comparison, Side};
use crate::curve::Curve;
use crate::format::{bytes, grouped};
use crate::input::Input;

const SIZE: (u32, u32) = (960, 540);
/// Room above for the title.
const TITLE_ROOM: i32 = 88;
/// Room on the right for the labels of the lines.
const LABEL_ROOM: i32 = 172;
/// Two rows of text, and a little air.
const LABEL_HEIGHT: i32 = 48;

const FONT: &str = "sans-serif";
const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const PALE_INK: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Two hues that people who see few colours tell apart as well.
const STORE: RGBColor = RGBColor(0x00, 0x5f, 0xa8);
const MAP: RGBColor = RGBColor(0xd5, 0x5e, 0x00);

/// The file to draw into, opened before the run, so that a wrong path is told at once.
pub struct PlotFile {
    path: PathBuf,
    file: File,
    /// There was no such file before: it is taken away again if nothing is drawn.
    fresh: bool,
    drawn: bool,
}

impl PlotFile {
    pub fn open(path: &Path) -> Result<Self> {
        ensure!(
            may_be_replaced(path),
            "--plot {}: that file is there already and is no SVG picture",
            path.display()
        );
        let fresh = !path.exists();
        // Not truncated: an interrupted run leaves the old picture as it was.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("--plot {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, fresh, drawn: false })
    }

    /// Draws both curves, and says so for the report.
    pub fn draw(mut self, comparison: &Comparison, input: &Input) -> Result<String> {
        let name = self.path.display().to_string();
        let svg = render(comparison, input).with_context(|| format!("drawing {name}"))?;
        self.write(svg.as_bytes()).with_context(|| format!("writing {name}"))?;
        self.drawn = true;
        Ok(format!("  drawn: {name}\n"))
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        self.file.write_all(bytes)
    }
}

/// A log whose name slipped in behind `--plot` is not to be overwritten.
fn may_be_replaced(path: &Path) -> bool {
    if !path.is_file() {
        return true;
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(5).read_to_end(&mut start));
    // What cannot be read is told when it is opened for writing.
    read.is_err() || start.is_empty() || start == b"<svg " || start == b"<?xml"
}

impl Drop for PlotFile {
    fn drop(&mut self) {
        if self.fresh && !self.drawn {
            // An empty file left behind harms nobody.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A line of the picture.
struct Series<'a> {
    name: &'a str,
    side: &'a Side,
    color: RGBColor,
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn render(comparison: &Comparison, input: &Input) -> Result<String> {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        canvas.fill(&PAPER)?;
        let series = [
            Series { name: "HashMap", side: &comparison.map, color: MAP },
            Series { name: "counterclock", side: &comparison.store, color: STORE },
        ];
        draw_title(&canvas, comparison, input)?;
        draw_chart(&canvas, &series)?;
        canvas.present()?;
    }
    Ok(svg)
}

fn draw_title(canvas: &Canvas<'_>, comparison: &Comparison, input: &Input) -> Result<()> {
    let title = "Memory of the counters, over the requests";
    let below = format!(
        "{input}: {} requests, and room for {} keys in counterclock",
        grouped(comparison.map.pass.tally.requests),
        grouped(comparison.capacity),
    );
    let title_style = (FONT, 22, FontStyle::Bold, &INK).into_text_style(canvas);
    canvas.draw(&Text::new(title, (24, 20), title_style))?;
    let below_style = (FONT, 15, &PALE_INK).into_text_style(canvas);
    canvas.draw(&Text::new(below, (24, 50), below_style))?;
    Ok(())
}

fn draw_chart(canvas: &Canvas<'_>, series: &[Series<'_>]) -> Result<()> {
    let curves = || series.iter().map(|one| &one.side.pass.curve);
    let requests = curves().map(|curve| curve.last().requests).max().unwrap_or(0);
    let most = curves().map(Curve::most).max().unwrap_or(0);
    let (across, up) = (Unit::of_requests(requests), Unit::of_bytes(most));
    // A tenth of air above; and never an axis without length.
    let width = across.of(requests.max(1));
    let height = up.of(most.max(1)) * 1.1;

    let mut chart = ChartBuilder::on(canvas)
        .margin(16)
        .margin_top(TITLE_ROOM)
        .margin_right(LABEL_ROOM)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..width, 0.0..height)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(PALE_INK)
        .label_style((FONT, 14, &INK))
        .axis_desc_style((FONT, 15, &INK))
        .x_desc(format!("requests replayed{}", across.name))
        .y_desc(format!("memory allocated{}", up.name))
        .x_labels(9)
        .y_labels(7)
        .x_label_formatter(&|x| tick(*x))
        .y_label_formatter(&|y| tick(*y))
        .draw()?;
    for one in series {
        let points = one.side.pass.curve.points().iter();
        let line = points.map(|point| (across.of(point.requests), up.of(point.bytes)));
        chart.draw_series(LineSeries::new(line, one.color.stroke_width(3)))?;
    }
    let end = |one: &Series<'_>| {
        let last = one.side.pass.curve.last();
        chart.backend_coord(&(across.of(last.requests), up.of(last.bytes)))
    };
    draw_labels(canvas, series, end)
}

/// Names each line where it ends, and pushes labels that would touch apart.
fn draw_labels(
    canvas: &Canvas<'_>,
    series: &[Series<'_>],
    end: impl Fn(&Series<'_>) -> (i32, i32),
) -> Result<()> {
    let mut labels: Vec<_> = series.iter().map(|one| (end(one), one)).collect();
    labels.sort_by_key(|((_, y), _)| *y);
    // From the bottom up, so that the lowest stays above the axis.
    let mut limit = i32::MAX;
    for ((x, y), one) in labels.into_iter().rev() {
        let top = (y - LABEL_HEIGHT / 2).min(limit);
        limit = top - LABEL_HEIGHT;
        let name_style = (FONT, 17, FontStyle::Bold, &one.color).into_text_style(canvas);
        canvas.draw(&Text::new(one.name, (x + 12, top), name_style))?;
        let below =
            format!("{}, {} keys", bytes(one.side.pass.curve.last().bytes), grouped(one.side.keys));
        let below_style = (FONT, 14, &INK).into_text_style(canvas);
        canvas.draw(&Text::new(below, (x + 12, top + 22), below_style))?;
    }
    Ok(())
}

/// What the numbers of an axis are divided by.
struct Unit {
    size: f64,
    name: &'static str,
}

impl Unit {
    fn of_requests(most: u64) -> Self {
        let (size, name) = match most {
            2_000_000.. => (1e6, " (millions)"),
            2_000.. => (1e3, " (thousands)"),
            _ => (1.0, ""),
        };
        Self { size, name }
    }

    fn of_bytes(most: u64) -> Self {
        const MIB: u64 = 1 << 20;
        let (size, name) = match most {
            MIB.. => (1024.0 * 1024.0, " (MiB)"),
            _ => (1024.0, " (KiB)"),
        };
        Self { size, name }
    }

    fn of(&self, n: u64) -> f64 {
        n as f64 / self.size
    }
}

/// A number on an axis: no decimals unless it needs them.
fn tick(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    rounded.to_string()
}
