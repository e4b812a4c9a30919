package storetest_test

import (
	"testing"

	"github.com/mongostore/mongostore/internal/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }
