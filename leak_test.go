package mongostore_test

import (
	"runtime"
	"strings"
	"time"
)

// leftBehind returns the stacks of the goroutines that are running although all tests are
// over, all stores and clients closed, and the server stopped. It waits a little for those
// that are about to end.
func leftBehind() string {
	var left []string
	for range 100 {
		buf := make([]byte, 4<<20)
		left = nil
		// The first is this one.
		for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
			if !strings.Contains(stack, "os/signal.") && !strings.Contains(stack, "runtime.ensureSigM") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return strings.Join(left, "\n\n")
}
