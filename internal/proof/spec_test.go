package proof

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// What a session is to those who use it concurrently, as a sequential specification: a few
// registers, one for each key, and a list, that are read together. Registers are written each
// by itself; elements are appended to the list and taken out of it. All can be ended together, which is
// permanent. A renewal ends them and begins others with what they held; to end what was renewed ends what it
// was renewed to. Linearizable is a history of concurrent requests if each can be thought of as
// having happened in one moment between its call and its return.
//
// The registers of a session are checked together, which says more than each by
// itself: that a save is seen whole or not at all, and that no load mixes two times.

var keys = [...]string{"a", "b", "c"}

const listKey = "l"

// values are those of the keys. No value is written twice.
type values [len(keys)]int

const (
	absent    = 0
	untouched = -1 // in what a save writes
)

var nothing = values{untouched, untouched, untouched}

// document is what the specification knows of an ID.
type document struct {
	made    bool
	ended   bool
	values  values
	list    string // its elements, each with a comma after it
	movedTo int    // the document that it was renewed to; 0 if none, since that is never one
}

type kind int

const (
	load kind = iota
	save
	renew
	create // a save of a new session
	end    // a logout, a removal, a revocation
)

type result int

const (
	done result = iota
	gone
	conflict
	unknown // whether it was carried out, and when
)

// forever is when an operation returns that may be carried out at any later time, or never.
const forever = math.MaxInt64

type input struct {
	kind    kind
	what    string // as the test calls it
	process int
	doc     int    // index of the ID
	write   values // of save, renew and create; untouched where nothing changes
	base    values // what the session held when it was last in step with the database

	sent values // what the save before wrote, if that was not answered; untouched otherwise

	appended, taken []int // elements of the list
}

type output struct {
	result result
	values values // of load, and of what renew left in the session
	list   string
	doc    int // that renew made

	// hidden: this process had a logout by then that it has yet to carry out, so it
	// may say that the session is gone while others still see it.
	hidden bool
}

// specification is the model that a history is checked against.
func specification(reject bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return []document(nil) },
		Step: func(state, in, out any) (bool, any) {
			return step(state.([]document), in.(input), out.(output), reject)
		},
		Equal:             func(a, b any) bool { return slices.Equal(a.([]document), b.([]document)) },
		DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
		DescribeState: func(state any) string {
			var s []string
			for i, d := range state.([]document) {
				text := fmt.Sprintf("%d: %v [%s]", i, d.values, d.list)
				if d.ended {
					text = fmt.Sprintf("%d: gone", i)
				}
				s = append(s, text)
			}
			return strings.Join(s, "; ")
		},
	}
}

// step reports whether an operation can have this outcome in this state, and what the
// state is afterwards. What is unknown takes effect if it can; that it had none is
// the same as that it has after everything else.
func step(state []document, in input, out output, reject bool) (bool, []document) {
	docs := slices.Clone(state)
	at := func(i int) *document {
		for len(docs) <= i {
			docs = append(docs, document{})
		}
		return &docs[i]
	}
	doc := at(in.doc)
	alive := doc.made && !doc.ended
	if out.result == gone {
		return !alive || out.hidden, state
	}
	clash := reject && in.clashes(doc.values)
	switch in.kind {
	case create:
		ok := !doc.made
		*doc = document{made: true, values: in.over(values{}), list: in.edit("")}
		return ok, docs
	case load:
		return alive && doc.values == out.values && doc.list == out.list, state
	case end:
		for doc.ended = true; doc.movedTo != 0; doc.ended = true {
			doc = &docs[doc.movedTo]
		}
		return true, docs
	}
	switch {
	case out.result == conflict:
		return alive && clash, state
	case out.result == unknown && (!alive || clash):
		return true, state
	case !alive || clash:
		return false, state
	}
	if in.kind == save {
		doc.values, doc.list = in.over(doc.values), in.edit(doc.list)
		return true, docs
	}
	merged, list := in.over(doc.values), in.edit(doc.list)
	doc.ended, doc.movedTo = true, out.doc
	fresh := at(out.doc)
	ok := !fresh.made && merged == out.values && list == out.list
	*fresh = document{made: true, values: merged, list: list}
	return ok, docs
}

// clashes reports whether a key that is to be written does not hold what it did when it was
// loaded.
func (in *input) clashes(now values) bool {
	for k, v := range in.write {
		if v != untouched && in.base[k] != now[k] && (in.sent[k] == untouched || in.sent[k] != now[k]) {
			return true
		}
	}
	return false
}

// over returns what is stored after the write.
func (in *input) over(held values) values {
	for k, v := range in.write {
		if v != untouched {
			held[k] = v
		}
	}
	return held
}

// edit returns the list after the edit.
func (in *input) edit(list string) string {
	var s strings.Builder
	for _, e := range strings.SplitAfter(list, ",") {
		if !slices.ContainsFunc(in.taken, func(n int) bool { return e == fmt.Sprint(n, ",") }) {
			s.WriteString(e)
		}
	}
	for _, n := range in.appended {
		fmt.Fprint(&s, n, ",")
	}
	return s.String()
}

func describe(in input, out output) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %d", in.what, in.doc)
	if in.kind == save || in.kind == renew || in.kind == create {
		for k, v := range in.write {
			switch v {
			case untouched:
			case absent:
				fmt.Fprintf(&s, " -%s", keys[k])
			default:
				fmt.Fprintf(&s, " %s=%d", keys[k], v)
			}
		}
		if len(in.appended)+len(in.taken) > 0 {
			fmt.Fprintf(&s, " list +%v -%v", in.appended, in.taken)
		}
	}
	fmt.Fprintf(&s, " (process %d): ", in.process)
	switch {
	case out.result != done:
		s.WriteString([]string{"done", "gone", "conflict", "unknown"}[out.result])
	case in.kind == renew:
		fmt.Fprintf(&s, "now %d %v [%s]", out.doc, out.values, out.list)
	case in.kind == load:
		fmt.Fprintf(&s, "%v [%s]", out.values, out.list)
	default:
		s.WriteString("done")
	}
	if out.hidden {
		s.WriteString(" (a logout is pending here)")
	}
	return s.String()
}
