package proof

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// TestSpecification: the checker refuses histories in which a promise is broken, and accepts
// those like them in which it is not.
func TestSpecification(t *testing.T) {
	t.Parallel()
	begin := op(0, 1, input{kind: create, write: values{1, 2, absent}}, output{})
	set := func(from, to int64, write, base values, r result) porcupine.Operation {
		return op(from, to, input{kind: save, write: write, base: base, sent: nothing}, output{result: r})
	}
	sees := func(from, to int64, v values) porcupine.Operation {
		return op(from, to, input{kind: load}, output{values: v})
	}
	isGone := func(from, to int64) porcupine.Operation {
		return op(from, to, input{kind: load}, output{result: gone})
	}
	logout := func(from, to int64) porcupine.Operation {
		return op(from, to, input{kind: end}, output{})
	}
	onto := func(from, to int64, write, got values, r result) porcupine.Operation {
		return op(from, to, input{kind: renew, write: write, base: values{1, 2, absent}, sent: nothing}, output{result: r, doc: 1, values: got})
	}
	flash := func(from, to int64, appended, taken []int) porcupine.Operation {
		return op(from, to, input{kind: save, write: nothing, sent: nothing, appended: appended, taken: taken}, output{})
	}
	holds := func(from, to int64, list string) porcupine.Operation {
		return op(from, to, input{kind: load}, output{values: values{1, 2, absent}, list: list})
	}
	const no = untouched
	old := values{1, 2, absent}

	for _, tt := range []struct {
		name          string
		merge, reject bool // whether it is linearizable under each
		history       []porcupine.Operation
	}{
		{"changes of two keys are both kept", true, true, []porcupine.Operation{
			set(2, 4, values{3, no, no}, old, done), set(3, 5, values{no, 4, no}, old, done), sees(6, 7, values{3, 4, absent}),
		}},
		{"a change is lost", false, false, []porcupine.Operation{
			set(2, 4, values{3, no, no}, old, done), set(3, 5, values{no, 4, no}, old, done), sees(6, 7, values{1, 4, absent}),
		}},
		{"a deletion is lost", false, false, []porcupine.Operation{
			set(2, 3, values{absent, no, no}, old, done), sees(4, 5, old),
		}},
		{"of two changes of a key one stays", true, false, []porcupine.Operation{
			set(2, 4, values{3, no, no}, old, done), set(3, 5, values{4, no, no}, old, done), sees(6, 7, values{3, 2, absent}),
		}},
		{"the later change of a key is refused", true, true, []porcupine.Operation{
			set(2, 4, values{3, no, no}, old, done), set(5, 6, values{no, 4, no}, old, done), sees(7, 8, values{3, 4, absent}),
		}},
		{"a conflict", false, true, []porcupine.Operation{
			set(2, 4, values{3, no, no}, old, done), set(3, 5, values{4, no, no}, old, conflict), sees(6, 7, values{3, 2, absent}),
		}},
		{"a conflict with nobody", false, false, []porcupine.Operation{
			set(2, 3, values{3, no, no}, old, conflict),
		}},
		{"a refused change is stored", false, false, []porcupine.Operation{
			set(2, 4, values{3, no, no}, old, done), set(3, 5, values{4, 5, no}, old, conflict), sees(6, 7, values{3, 5, absent}),
		}},
		{"a load during a save sees either", true, true, []porcupine.Operation{
			set(2, 6, values{3, 4, no}, old, done), sees(3, 4, old), sees(4, 5, values{3, 4, absent}),
		}},
		{"a load sees half a save", false, false, []porcupine.Operation{
			set(2, 6, values{3, 4, no}, old, done), sees(3, 4, values{3, 2, absent}),
		}},
		{"a stale load", false, false, []porcupine.Operation{
			set(2, 3, values{3, no, no}, old, done), sees(4, 5, old),
		}},
		{"a value that comes and goes", false, false, []porcupine.Operation{
			set(2, 9, values{3, no, no}, old, done), sees(3, 4, values{3, 2, absent}), sees(5, 6, old),
		}},
		{"a logout", true, true, []porcupine.Operation{
			logout(2, 3), isGone(4, 5), set(6, 7, values{3, no, no}, old, gone),
		}},
		{"a load after a logout", false, false, []porcupine.Operation{
			logout(2, 3), sees(4, 5, old),
		}},
		{"a save after a logout succeeds", false, false, []porcupine.Operation{
			logout(2, 3), set(4, 5, values{3, no, no}, old, done),
		}},
		{"a save during a logout may succeed", true, true, []porcupine.Operation{
			logout(2, 5), set(3, 4, values{3, no, no}, old, done), isGone(6, 7),
		}},
		{"a session that is gone comes back", false, false, []porcupine.Operation{
			logout(2, 9), isGone(3, 4), sees(5, 6, old),
		}},
		{"gone without a reason", false, false, []porcupine.Operation{
			isGone(2, 3),
		}},
		{"an unknown save may have had an effect, or none, or later", true, true, []porcupine.Operation{
			set(2, forever, values{3, no, no}, old, unknown), sees(3, 4, old), sees(5, 6, values{3, 2, absent}),
		}},
		{"an unknown save takes effect twice", false, false, []porcupine.Operation{
			set(2, forever, values{3, no, no}, old, unknown), sees(3, 4, values{3, 2, absent}),
			set(5, 6, values{4, no, no}, values{3, 2, absent}, done), sees(7, 8, values{3, 2, absent}),
		}},
		{"a renewal", true, true, []porcupine.Operation{
			onto(2, 3, values{3, no, no}, values{3, 2, absent}, done), isGone(4, 5),
			op(6, 7, input{kind: load, doc: 1}, output{values: values{3, 2, absent}}),
		}},
		{"the old ID works after a renewal", false, false, []porcupine.Operation{
			onto(2, 3, values{3, no, no}, values{3, 2, absent}, done), sees(4, 5, old),
		}},
		{"a change is lost in a renewal", false, false, []porcupine.Operation{
			onto(2, 5, values{3, no, no}, values{3, 2, absent}, done), set(3, 4, values{no, 4, no}, old, done),
			op(6, 7, input{kind: load, doc: 1}, output{values: values{3, 2, absent}}),
		}},
		{"two renewals succeed", false, false, []porcupine.Operation{
			onto(2, 5, values{no, no, no}, old, done),
			op(3, 6, input{kind: renew, write: values{no, no, no}}, output{doc: 2, values: old}),
		}},
		{"a renewal undoes a logout", false, false, []porcupine.Operation{
			logout(2, 3), onto(4, 5, values{no, no, no}, old, done),
		}},
		{"a pending logout is known in its process alone", true, true, []porcupine.Operation{
			logout(2, 20),
			op(4, 5, input{kind: load, process: 1}, output{result: gone, hidden: true}),
			op(6, 7, input{kind: load, process: 2}, output{values: old}),
			op(21, 22, input{kind: load, process: 2}, output{result: gone}),
		}},
		{"two requests append to a list", true, true, []porcupine.Operation{
			flash(2, 4, []int{5}, nil), flash(3, 5, []int{6}, nil), holds(6, 7, "6,5,"),
		}},
		{"an element of a list is lost", false, false, []porcupine.Operation{
			flash(2, 4, []int{5}, nil), flash(3, 5, []int{6}, nil), holds(6, 7, "6,"),
		}},
		{"an element is taken while another is appended", true, true, []porcupine.Operation{
			flash(2, 3, []int{5}, nil), flash(4, 6, nil, []int{5}), flash(5, 7, []int{6}, nil), holds(8, 9, "6,"),
		}},
		{"an element that was taken is back", false, false, []porcupine.Operation{
			flash(2, 3, []int{5}, nil), flash(4, 6, nil, []int{5}), flash(5, 7, []int{6}, nil), holds(8, 9, "5,6,"),
		}},
		{"a logout of what was renewed ends both", true, true, []porcupine.Operation{
			onto(2, 3, values{no, no, no}, old, done), logout(4, 5), op(6, 7, input{kind: load, doc: 1}, output{result: gone}),
		}},
		{"a logout of what was renewed ends nothing", false, false, []porcupine.Operation{
			onto(2, 3, values{no, no, no}, old, done), logout(4, 5), op(6, 7, input{kind: load, doc: 1}, output{values: old}),
		}},
		{"a pending logout is forgotten", false, false, []porcupine.Operation{
			logout(2, 20), sees(21, 22, old),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			history := append([]porcupine.Operation{begin}, tt.history...)
			if got := porcupine.CheckOperations(specification(false), history); got != tt.merge {
				t.Errorf("under Merge: accepted %t", got)
			}
			if got := porcupine.CheckOperations(specification(true), history); got != tt.reject {
				t.Errorf("under Reject: accepted %t", got)
			}
		})
	}
}

func op(from, to int64, in input, out output) porcupine.Operation {
	return porcupine.Operation{Call: from, Return: to, Input: in, Output: out}
}
