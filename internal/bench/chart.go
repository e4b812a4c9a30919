package bench

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// charted are the panels of the chart, row by row.
var charted = [][]Case{
	{{Small, Keep, 1}, {Small, Change, 1}},
	{{Large, Keep, 1}, {Large, Change, 1}},
}

// Colours that can be told apart by those who see no red or green too. The background
// is drawn, so that the chart is the same on a light and a dark page.
var (
	colourOwn   = color.RGBA{0x00, 0x5a, 0xb5, 0xff}
	colourPeer  = color.RGBA{0x9a, 0xa5, 0xb1, 0xff}
	colourLocal = color.RGBA{0xd9, 0xde, 0xe4, 0xff} // those without a database
	colourText  = color.RGBA{0x24, 0x29, 0x2f, 0xff}
	colourLine  = color.RGBA{0xb4, 0x23, 0x18, 0xff} // the floor
	colourPage  = color.White
)

// Chart draws the comparison as SVG.
func (r *Report) Chart() ([]byte, error) {
	const width, height = 17 * vg.Centimeter * 1.45, 11.5 * vg.Centimeter * 1.45
	canvas := vgsvg.New(width, height)
	page := draw.New(canvas)
	page.SetColor(colourPage)
	page.Fill(page.Rectangle.Path())

	style := text.Style{
		Color:   colourText,
		Font:    font.From(plot.DefaultFont, 13),
		Handler: plot.DefaultTextHandler,
	}
	style.Font.Variant = "Sans"
	page.FillText(style, vg.Point{X: 14, Y: height - 24}, "Time of a request with its session, as a multiple of the driver's own, and in µs (less is better)")
	style.Font.Size = 9.5
	note := ""
	if r.embedded() {
		note = " MongoDB is faster, and its ratios higher."
	}
	page.FillText(style, vg.Point{X: 14, Y: height - 40},
		fmt.Sprintf("One browser. Red line: the driver's calls alone. Pale: no database. %s, %s.%s", shortServer(r.Server), r.Date, note))

	tiles := draw.Tiles{
		Rows: len(charted), Cols: len(charted[0]),
		PadTop: 54, PadBottom: 10, PadLeft: 10, PadRight: 16, PadX: 18, PadY: 14,
	}
	longest := 1.0
	for _, res := range r.Results {
		if slices.Contains(slices.Concat(charted...), res.Case) {
			longest = math.Max(longest, res.Ratio)
		}
	}
	plots := make([][]*plot.Plot, len(charted))
	for i, row := range charted {
		for _, c := range row {
			p, err := r.panel(c, longest)
			if err != nil {
				return nil, err
			}
			plots[i] = append(plots[i], p)
		}
	}
	for i, row := range plot.Align(plots, tiles, page) {
		for j, tile := range row {
			plots[i][j].Draw(tile)
		}
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	return webFonts(out.Bytes()), nil
}

// panel draws one case, on an axis that ends beyond longest.
func (r *Report) panel(c Case, longest float64) (*plot.Plot, error) {
	p := plot.New()
	sans := func(f *font.Font, size font.Length) {
		f.Variant, f.Size = "Sans", size
	}
	p.Title.Text = name(c)
	p.Title.Padding = 6
	sans(&p.Title.TextStyle.Font, 11)
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		sans(&axis.Tick.Label.Font, 10)
		axis.Tick.Label.Color, axis.Color, axis.Tick.Color = colourText, colourText, colourText
	}
	p.Title.TextStyle.Color = colourText
	p.BackgroundColor = colourPage

	line, err := floorLine(len(AllNames) - 1)
	if err != nil {
		return nil, err
	}
	p.Add(line)
	results := map[string]Result{}
	for _, res := range r.of(c) {
		results[res.Store] = res
	}
	var names []string
	for i := range AllNames[1:] {
		store := AllNames[len(AllNames)-1-i] // from below
		names = append(names, titles[store])
		res, ok := results[store]
		label, at := "does not fit", 1.0
		if store != CookieName {
			label = "not measured"
		}
		if ok {
			label, at = fmt.Sprintf("%.2f, %s µs", res.Ratio, micros(res.Nanos)), res.Ratio
			if at < 1 && at+longest/3 > 1 {
				at = 1 // clear of the line
			}
			bar, err := plotter.NewBarChart(plotter.Values{res.Ratio}, 15)
			if err != nil {
				return nil, err
			}
			bar.Horizontal, bar.XMin, bar.Color = true, float64(i), barColour(store)
			bar.LineStyle.Width = 0
			p.Add(bar)
		}
		labels, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: at, Y: float64(i)}}, Labels: []string{label}})
		if err != nil {
			return nil, err
		}
		sans(&labels.TextStyle[0].Font, 10)
		labels.TextStyle[0].Color, labels.TextStyle[0].YAlign = colourText, text.YCenter
		labels.Offset = vg.Point{X: 4}
		p.Add(labels)
	}
	p.NominalY(names...)
	p.X.Min, p.X.Max = 0, longest*1.3
	p.X.Tick.Marker = wholeTicks{}
	p.Y.Min, p.Y.Max = -0.6, float64(len(names))-0.4
	p.Y.Width, p.Y.Tick.Length, p.Y.Padding = 0, 0, 14 // also for a wider font than Liberation
	return p, nil
}

// floorLine is where the driver's calls alone stand.
func floorLine(n int) (*plotter.Line, error) {
	line, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.6}, {X: 1, Y: float64(n) - 0.4}})
	if err != nil {
		return nil, err
	}
	line.Color, line.Width = colourLine, 1.2
	return line, nil
}

func barColour(store string) color.Color {
	switch store {
	case OwnName:
		return colourOwn
	case CookieName, FilesName:
		return colourLocal
	default:
		return colourPeer
	}
}

// wholeTicks are at whole numbers, at most ten of them, and always at 1.
type wholeTicks struct{}

func (wholeTicks) Ticks(_, most float64) []plot.Tick {
	step := math.Ceil(most / 10)
	ticks := []plot.Tick{{Value: 0, Label: "0"}, {Value: 1, Label: "1"}}
	for x := step; x <= most; x += step {
		if x > 1 {
			ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprint(x)})
		}
	}
	return ticks
}

// shortServer is a server's name and version.
func shortServer(description string) string {
	head, _, _ := strings.Cut(description, ",")
	return head
}

// webFonts lets a browser without the Liberation fonts choose one of the same width.
func webFonts(svg []byte) []byte {
	return bytes.ReplaceAll(svg, []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
}
