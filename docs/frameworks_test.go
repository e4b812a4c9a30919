package docs_test

import (
	"strings"
	"testing"
)

// TestFrameworksPageSaysWhatPostsFromElsewhereNeed: Apple and SAML post to the callback from
// their own site, which SameSite=Lax leaves without the session.
func TestFrameworksPageSaysWhatPostsFromElsewhereNeed(t *testing.T) {
	t.Parallel()
	for section := range strings.SplitSeq(page(t, "docs/frameworks.md"), "\n## ") {
		title, _, _ := strings.Cut(section, "\n")
		if !strings.Contains(strings.ToLower(title), "goth") {
			continue
		}
		for _, want := range []string{"form_post", "Apple", "SAML", "SameSite", "None"} {
			if !strings.Contains(section, want) {
				t.Errorf("the section %q does not mention %s", title, want)
			}
		}
		return
	}
	t.Error("no section about goth")
}
