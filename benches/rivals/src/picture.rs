//! Lines over categories, panel beside panel, with one legend.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordi32;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::rivals::{Group, Rival};

const PANEL: (u32, u32) = (330, 440);
const TITLE: u32 = 56;
const LEGEND: u32 = 230;
/// The title of the axis at the very left.
const MARGIN: u32 = 34;
const LEGEND_LINE: i32 = 22;
/// As many categories as have room for their names.
const LABELS: usize = 7;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const PALE_INK: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xdc, 0xdc, 0xdc);
const PALE_GRID: RGBColor = RGBColor(0xf2, 0xf2, 0xf2);

/// A line, by what it is at each category.
pub struct Series {
    pub name: String,
    pub values: Vec<Option<f64>>,
}

pub struct Panel {
    pub title: String,
    pub categories: Vec<String>,
    pub series: Vec<Series>,
}

pub struct Picture {
    pub title: String,
    pub across: String,
    pub up: String,
    pub logarithmic: bool,
    pub panels: Vec<Panel>,
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// How a line is drawn: those of one group have one mark, and colours that differ.
#[derive(Clone, Copy)]
struct Look {
    color: RGBColor,
    width: u32,
    mark: Mark,
}

#[derive(Clone, Copy)]
enum Mark {
    Disc,
    Square,
    Cross,
}

/// Hues that people who see few colours tell apart as well (Okabe and Ito, and two greys).
const COLORS: [RGBColor; 8] = [
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x8a, 0x6d, 0x3b),
    RGBColor(0x7a, 0x52, 0xa8),
    RGBColor(0xa0, 0x20, 0x30),
];
const OURS: [RGBColor; 4] = [
    RGBColor(0x00, 0x2f, 0x78),
    RGBColor(0x4a, 0xa3, 0xdf),
    RGBColor(0x3d, 0x4f, 0xc4),
    RGBColor(0x5f, 0xc4, 0xc9),
];
const GREYS: [RGBColor; 3] =
    [RGBColor(0x33, 0x33, 0x33), RGBColor(0x77, 0x77, 0x77), RGBColor(0xaa, 0xaa, 0xaa)];

impl Look {
    /// The same for a store in each picture; others take a number of their own.
    fn of(name: &str, number: usize) -> Self {
        let is_ours = name.starts_with(Rival::Counterclock.name()) || name.starts_with("held");
        let called = |exactly: bool| {
            let matches = |rival: &Rival| {
                if exactly { rival.name() == name } else { name.starts_with(rival.name()) }
            };
            Rival::ALL.into_iter().find(matches)
        };
        let rival = called(true).or_else(|| called(false));
        let place = |group: Group| {
            let mut same = Rival::ALL.into_iter().filter(|rival| rival.group() == group);
            same.position(|one| Some(one) == rival).unwrap_or(number)
        };
        match rival.map(Rival::group) {
            // The store itself is drawn last and thin, so that the others show beneath it.
            _ if is_ours => {
                let width = if name == Rival::Counterclock.name() { 2 } else { 4 };
                let at = called(true).map_or(1 + number % 3, |_| place(Group::Ours));
                Self { color: OURS[at % 4], width, mark: Mark::Disc }
            }
            Some(Group::Unbounded) => {
                Self { color: COLORS[place(Group::Unbounded)], width: 1, mark: Mark::Cross }
            }
            Some(Group::Floor) => {
                Self { color: GREYS[place(Group::Floor) % 3], width: 1, mark: Mark::Cross }
            }
            Some(_) => {
                let mark = if called(true).is_some() { Mark::Square } else { Mark::Cross };
                Self { color: COLORS[place(Group::Bounded)], width: 2, mark }
            }
            // A simulation, a bare atomic, a variant.
            None => Self { color: GREYS[number % 3], width: 2, mark: Mark::Cross },
        }
    }
}

impl Picture {
    /// As SVG.
    pub fn draw(&self) -> Result<String> {
        let mut svg = String::new();
        let width = MARGIN + PANEL.0 * self.panels.len() as u32 + LEGEND;
        {
            let size = (width, TITLE + PANEL.1);
            let canvas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            canvas.fill(&WHITE)?;
            let style = (FONT, 20, FontStyle::Bold, &INK).into_text_style(&canvas);
            canvas.draw(&Text::new(self.title.clone(), (16, 18), style))?;
            let (_, below) = canvas.split_vertically(TITLE);
            let (_, below) = below.split_horizontally(MARGIN);
            self.draw_up(&canvas)?;
            let (panels, legend) = below.split_horizontally(PANEL.0 * self.panels.len() as u32);
            let looks = self.looks();
            for (panel, area) in self.panels.iter().zip(panels.split_evenly((1, self.panels.len())))
            {
                self.draw_panel(panel, &area, &looks)?;
            }
            draw_legend(&legend, &looks)?;
            canvas.present()?;
        }
        Ok(svg)
    }

    /// The title of the axis that all panels share.
    fn draw_up(&self, canvas: &Canvas<'_>) -> Result<()> {
        let style = (FONT, 14, &INK).into_text_style(canvas).transform(FontTransform::Rotate270);
        let style = style.pos(Pos::new(HPos::Center, VPos::Top));
        let middle = (TITLE + PANEL.1 / 2) as i32;
        canvas.draw(&Text::new(self.up.clone(), (12, middle), style))?;
        Ok(())
    }

    /// Each name once, with its look.
    fn looks(&self) -> Vec<(&str, Look)> {
        let mut looks: Vec<(&str, Look)> = Vec::new();
        for series in self.panels.iter().flat_map(|panel| &panel.series) {
            if !looks.iter().any(|(name, _)| *name == series.name) {
                looks.push((&series.name, Look::of(&series.name, looks.len())));
            }
        }
        looks
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let series = self.panels.iter().flat_map(|panel| &panel.series);
        series.flat_map(|one| one.values.iter().copied().flatten())
    }

    fn draw_panel(&self, panel: &Panel, area: &Canvas<'_>, looks: &[(&str, Look)]) -> Result<()> {
        let most = self.values().fold(0.0, f64::max).max(1e-9);
        let across = 0..panel.categories.len().saturating_sub(1).max(1) as i32;
        let mut builder = ChartBuilder::on(area);
        builder
            .margin(8)
            .x_label_area_size(46)
            .y_label_area_size(56)
            .caption(&panel.title, (FONT, 15, &INK));
        if self.logarithmic {
            let least = self.values().filter(|value| *value > 0.0).fold(most, f64::min);
            let up = (least * 0.8..most * 1.3).log_scale();
            self.draw_lines(&mut builder.build_cartesian_2d(across, up)?, panel, looks)
        } else {
            self.draw_lines(
                &mut builder.build_cartesian_2d(across, 0.0..most * 1.08)?,
                panel,
                looks,
            )
        }
    }

    fn draw_lines<'a, Y>(
        &self,
        chart: &mut ChartContext<'_, SVGBackend<'a>, Cartesian2d<RangedCoordi32, Y>>,
        panel: &Panel,
        looks: &[(&str, Look)],
    ) -> Result<()>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let category = |at: &i32| panel.categories.get(*at as usize).cloned().unwrap_or_default();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(PALE_GRID)
            .bold_line_style(GRID)
            .axis_style(PALE_INK)
            .label_style((FONT, 12, &INK))
            .axis_desc_style((FONT, 14, &INK))
            .x_desc(self.across.clone())
            .x_labels(panel.categories.len().clamp(1, LABELS))
            .x_label_formatter(&category)
            .y_labels(6)
            .y_max_light_lines(2)
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        for series in panel.series.iter().rev() {
            let Some((_, look)) = looks.iter().find(|(name, _)| *name == series.name) else {
                continue;
            };
            let points: Vec<_> =
                (0..).zip(&series.values).filter_map(|(at, value)| Some((at, (*value)?))).collect();
            let line = look.color.stroke_width(look.width);
            chart.draw_series(LineSeries::new(points.iter().copied(), line))?;
            // Many points are a line by themselves.
            if points.len() <= LABELS {
                draw_marks(chart, *look, &points)?;
            }
        }
        Ok(())
    }
}

fn draw_marks<'a, Y: Ranged<ValueType = f64>>(
    chart: &mut ChartContext<'_, SVGBackend<'a>, Cartesian2d<RangedCoordi32, Y>>,
    look: Look,
    points: &[(i32, f64)],
) -> Result<()> {
    let style = look.color.filled();
    let points = points.iter().copied();
    match look.mark {
        Mark::Disc => chart.draw_series(points.map(|at| Circle::new(at, 4, style)))?,
        Mark::Square => chart.draw_series(
            points.map(|at| EmptyElement::at(at) + Rectangle::new([(-3, -3), (3, 3)], style)),
        )?,
        Mark::Cross => chart.draw_series(points.map(|at| Cross::new(at, 4, look.color)))?,
    };
    Ok(())
}

fn draw_legend(area: &Canvas<'_>, looks: &[(&str, Look)]) -> Result<()> {
    let text = (FONT, 13, &INK).into_text_style(area);
    for (line, (name, look)) in (0..).zip(looks) {
        let y = 30 + line * LEGEND_LINE;
        let stroke = look.color.stroke_width(look.width);
        area.draw(&PathElement::new([(8, y), (38, y)], stroke))?;
        let (at, style) = ((23, y), look.color.filled());
        match look.mark {
            Mark::Disc => area.draw(&Circle::new(at, 4, style))?,
            Mark::Square => area.draw(&Rectangle::new([(20, y - 3), (26, y + 3)], style))?,
            Mark::Cross => area.draw(&Cross::new(at, 4, look.color))?,
        }
        area.draw(&Text::new((*name).to_owned(), (46, y - 7), text.clone()))?;
    }
    Ok(())
}

/// A number on an axis: no decimals unless it needs them, and thousands as such.
fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{}M", round(value / 1e6)),
        1e4.. => format!("{}k", round(value / 1e3)),
        _ => round(value).to_string(),
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_have_titles_axes_and_a_legend() {
        let series =
            |name: &str| Series { name: name.into(), values: vec![Some(1.0), None, Some(3.0)] };
        let panel = || Panel {
            title: "panel".into(),
            categories: ["1", "2", "4"].map(str::to_owned).to_vec(),
            series: vec![series("counterclock"), series("moka")],
        };
        for logarithmic in [false, true] {
            let picture = Picture {
                title: "speed".into(),
                across: "threads".into(),
                up: "ns".into(),
                logarithmic,
                panels: vec![panel(), panel()],
            };
            let svg = picture.draw().unwrap();
            for text in ["speed", "threads", "ns", "panel", "counterclock", "moka"] {
                assert!(svg.contains(&format!("\n{text}\n")), "{text} is missing");
            }
        }
    }

    #[test]
    fn numbers_on_axes_are_short() {
        assert_eq!(short(0.5), "0.5");
        assert_eq!(short(2000.0), "2000");
        assert_eq!(short(1_048_576.0), "1.05M");
    }
}
