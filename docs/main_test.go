// Package docs_test makes the pages of this repository that are made by tests, and checks
// the others.
package docs_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/mongostore/mongostore/internal/storetest"
)

var update = flag.Bool("update", false, "write the pages that tests make")

// TestMain has the tests run in the repository's root, so that they call pages and sources by
// the names that a reader knows.
func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	storetest.Main(m)
}
