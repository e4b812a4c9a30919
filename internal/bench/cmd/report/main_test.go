package main

import "testing"

func TestInsert(t *testing.T) {
	page := "above\n" + begin + "old\n" + end + "below\n"
	got, err := insert([]byte(page), "new\n")
	if want := "above\n" + begin + "\nnew\n\n" + end + "below\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	if again, err := insert(got, "new\n"); err != nil || string(again) != string(got) {
		t.Errorf("a second time: %q, %v", again, err)
	}
	for _, page := range []string{"", begin, end, end + begin} {
		if _, err := insert([]byte(page), "new"); err == nil {
			t.Errorf("%q is accepted", page)
		}
	}
}
