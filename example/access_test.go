package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// What a page owes to people who use the keyboard, a screen reader, a small screen, or weak eyes;
// after the Web Content Accessibility Guidelines 2.2, level AA.

// helpers are what the scripts below have in common.
const helpers = `
	const controls = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]")]
		.filter(e => e.getClientRects().length > 0 && e.checkVisibility()); // what is closed has boxes too
	const show = e => "<" + e.tagName.toLowerCase() + "> " + (e.textContent || e.name || "").trim().replace(/\s+/g, " ").slice(0, 40);

	// Colours are [red, green, blue], and backgrounds several of these if there is a gradient.
	const colours = text => [...text.matchAll(/rgba?\(([^)]+)\)/g)].map(m => m[1].split(/[\s,\/]+/).map(Number));
	const solid = c => c && (c.length < 4 || c[3] === 1);
	const background = e => {
		for (; e; e = e.parentElement) {
			const style = getComputedStyle(e);
			const all = style.backgroundImage.includes("gradient") ? colours(style.backgroundImage) : colours(style.backgroundColor);
			if (all.every(solid)) return all;
		}
		return [[255, 255, 255]];
	};
	const light = c => {
		const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const contrast = (c, behind) => solid(c) ? Math.min(...behind.map(b => {
		const [dark, bright] = [light(c), light(b)].sort((x, y) => x - y);
		return (bright + 0.05) / (dark + 0.05);
	})) : 1;
`

// lookOver returns what is wrong with the page as it stands.
const lookOver = `(() => {` + helpers + `
	const problems = [];
	if (document.documentElement.lang !== "en") problems.push("the page has no language");
	if (!document.title.trim()) problems.push("the page has no title");
	if (document.querySelectorAll("main").length !== 1) problems.push("the page has not one main part");

	const levels = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(h => Number(h.tagName[1]));
	if (levels.filter(l => l === 1).length !== 1) problems.push("the page has not one h1");
	levels.forEach((l, i) => { if (l > (levels[i - 1] ?? 0) + 1) problems.push("a heading h" + l + " skips a level"); });

	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let text; text = texts.nextNode();) {
		const e = text.parentElement, style = getComputedStyle(e);
		if (!text.data.trim() || !e.getClientRects().length || !e.checkVisibility()) continue;
		const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
		const ratio = contrast(colours(style.color)[0], background(e));
		if (ratio < (large ? 3 : 4.5)) problems.push("text of contrast " + ratio.toFixed(2) + ": " + show(e));
	}
	for (const e of controls) {
		const style = getComputedStyle(e), box = e.getBoundingClientRect();
		const inline = e.matches("p > a:not(.button)"); // a link in running text
		if (!inline && (box.width < 24 || box.height < 24) && e.type !== "checkbox") problems.push("too small to be hit: " + show(e));
		if (e.matches("button:not(.plain), .button, input:not([type=checkbox])")) {
			const around = background(e.parentElement);
			const edge = Math.max(contrast(colours(style.borderTopColor)[0], around), contrast(background(e)[0], around));
			if (edge < 3) problems.push("an edge of contrast " + edge.toFixed(2) + ": " + show(e));
		}
		if (e.matches("input") && contrast(colours(style.color)[0], background(e)) < 4.5) problems.push("what is typed is hard to read: " + show(e));
	}
	return problems;
})()`

// begin puts the keyboard's starting point at the top of the page.
const begin = `(() => {` + helpers + `
	document.body.tabIndex = -1;
	document.body.focus();
	document.body.removeAttribute("tabindex");
	return controls.length;
})()`

// stop describes where the Tab key has led to.
const stop = `(() => {` + helpers + `
	const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
	const problems = [];
	if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) problems.push("its focus has no outline");
	const ratio = contrast(colours(style.outlineColor)[0], background(e.parentElement ?? e));
	if (ratio < 3) problems.push("its focus has the contrast " + ratio.toFixed(2));
	if (box.bottom <= 0 || box.right <= 0 || box.top >= innerHeight || box.left >= innerWidth) problems.push("it is out of sight");
	return {index: controls.indexOf(e), name: show(e), problems};
})()`

// wantAccessible checks the page as it stands: its language, headings, colours, sizes and names,
// and that the Tab key leads to every control, in order, and shows where it is.
func (tab *tab) wantAccessible(page string) {
	tab.t.Helper()
	for _, problem := range step(tab, "look the page over", chromedp.Evaluate[[]string](lookOver)) {
		tab.t.Errorf("%s: %s", page, problem)
	}
	tab.wantNames(page)

	n := step(tab, "begin at the top", chromedp.Evaluate[int](begin))
	if n < 3 {
		tab.t.Errorf("%s has %d controls", page, n)
	}
	for i := range n {
		tab.do("press Tab", chromedp.KeyEvent(kb.Tab))
		at := step(tab, "look where that leads", chromedp.Evaluate[struct {
			Index    int      `json:"index"`
			Name     string   `json:"name"`
			Problems []string `json:"problems"`
		}](stop))
		if at.Index != i {
			tab.t.Fatalf("%s: the Tab key leads to control %d of %d, want %d: %s", page, at.Index, n, i, at.Name)
		}
		for _, problem := range at.Problems {
			tab.t.Errorf("%s: %s: %s", page, at.Name, problem)
		}
	}
	tab.do("leave the page as it was", chromedp.Steps(
		chromedp.Evaluate[chromedp.Void](`document.activeElement.blur(), scrollTo(0, 0)`),
	))
}

// wantNames checks that each control has a name for those who do not see it, and that no two have
// the same.
func (tab *tab) wantNames(page string) {
	tab.t.Helper()
	seen := map[string]bool{}
	for _, node := range call(tab, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		role := strings.Trim(string(node.Role.Value), `"`)
		switch role {
		case "button", "checkbox", "link", "spinbutton", "textbox":
		default:
			continue
		}
		name := `""`
		if node.Name != nil {
			name = string(node.Name.Value)
		}
		switch control := role + " " + name; {
		case name == `""`:
			tab.t.Errorf("%s has a %s without a name", page, role)
		case seen[control]:
			tab.t.Errorf("%s has more than one %s", page, control)
		default:
			seen[control] = true
		}
	}
	if len(seen) == 0 {
		tab.t.Errorf("%s has no names", page)
	}
}

// The picture of the documentation.
const (
	pictures        = "../docs/img"
	pictureVariable = "EXAMPLE_PICTURES" // names a folder to draw it in
	maxPicture      = 200_000            // bytes
)

// picture takes a picture of the page for the documentation, if that is wanted.
func (tab *tab) picture(name string, screen screen, scheme string) {
	tab.t.Helper()
	folder := os.Getenv(pictureVariable)
	if folder == "" {
		return
	}
	tab.emulate(screen, scheme)
	tab.do("scroll to the top", chromedp.Evaluate[chromedp.Void](`scrollTo(0, 0)`))
	picture, err := png.Decode(bytes.NewReader(step(tab, "take a picture", chromedp.CaptureScreenshot())))
	if err != nil {
		tab.t.Fatal(err)
	}
	var small bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&small, picture); err != nil {
		tab.t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o750); err != nil {
		tab.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), small.Bytes(), 0o644); err != nil {
		tab.t.Fatal(err)
	}
}

// TestPictures checks the picture that the README of the repository shows.
func TestPictures(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(pictures, "devices.png"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the example is not in its repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	image, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	size := fmt.Sprint(image.Width, " by ", image.Height)
	want := fmt.Sprint(float64(readmeScreen.width)*readmeScreen.scale, " by ", float64(readmeScreen.height)*readmeScreen.scale)
	if size != want || len(data) > maxPicture {
		t.Errorf("the picture is %s pixels in %d bytes, want %s in at most %d", size, len(data), want, maxPicture)
	}
}
