package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

var (
	consoleBlock = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")
	cookieValue  = regexp.MustCompile(`(teahouse=)[A-Za-z0-9_=-]{40,}`)
)

// TestTranscript carries out the commands of the README, in order, with the whole program as it is
// started there, and compares what they print. Only the cookie's value may differ.
func TestTranscript(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "sh", "grep", "cp"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s", tool)
		}
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, block := range consoleBlock.FindAllStringSubmatch(string(text), -1) {
		lines = append(lines, strings.Split(strings.TrimSuffix(block[1], "\n"), "\n")...)
	}
	p := start(t, "", "-addr", "localhost:0", "-data", t.TempDir())
	p.opened(t)
	const base = "http://localhost:8080"
	folder := t.TempDir()

	commands := 0
	for len(lines) > 0 {
		command, ok := strings.CutPrefix(lines[0], "$ ")
		if !ok {
			t.Fatalf("the README has %q where a command should be", lines[0])
		}
		var want []string
		for lines = lines[1:]; len(lines) > 0 && !strings.HasPrefix(lines[0], "$ "); lines = lines[1:] {
			want = append(want, lines[0])
		}
		sh := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(command, base, p.url))
		sh.Dir = folder
		// Neither a proxy nor a .curlrc of this machine has a part in it.
		sh.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + folder, "LC_ALL=C.UTF-8"}
		out, err := sh.CombinedOutput()
		if err != nil {
			t.Errorf("$ %s: %v", command, err)
		}
		got := strings.ReplaceAll(strings.ReplaceAll(string(out), p.url, base), "\r\n", "\n")
		wanted := strings.Join(append(want, ""), "\n")
		if cookieValue.ReplaceAllString(got, "${1}ID") != cookieValue.ReplaceAllString(wanted, "${1}ID") {
			t.Errorf("$ %s\nprints\n%s\nand by the README\n%s", command, got, wanted)
		}
		commands++
	}
	if commands < 5 {
		t.Errorf("the README has %d commands", commands)
	}
}
