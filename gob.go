package mongostore

import "errors"

// encoding/gob believes the counts that it reads, and follows nested values as
// deep as they go: fifty bytes can make its decoder reserve gigabytes, and a few
// megabytes end the process with a stack overflow that nothing can recover from.
// So [checkGob] reads ahead of it.

var errGob = errors.New("malformed gob")

// checkGob refuses what [gobEncode] does not write: counts of more elements than
// there are bytes left, values nested more than maxDepth levels deep, and type
// definitions that cost far more to prepare for than they have bytes.
//
// The format is described at the end of encoding/gob's doc.go.
func checkGob(encoded []byte) error {
	s := gobScanner{
		stream:  encoded,
		types:   map[int64]*gobType{},
		decodes: map[gobPair]bool{},
		budget:  1000 + 4*len(encoded),
	}
	if s.typeSequence(true) != gobInterface || s.uint() != 0 {
		return errGob
	}
	s.interfaceValue(0)
	if s.bad || len(s.rest)+len(s.stream) > 0 {
		return errGob
	}
	return nil
}

// The IDs of gob's basic types.
const (
	gobBool = iota + 1
	gobInt
	gobUint
	gobFloat
	gobBytes
	gobString
	gobComplex
	gobInterface
)

// The kinds of types that a stream defines, as numbered in gob's wireType.
const (
	gobArray = iota
	gobSlice
	gobStruct
	gobMap
	gobOpaque // this and what follows encodes itself
)

type gobType struct {
	kind   int
	of     [3]int64 // the element of an array or slice at 1; a map's key at 1, its element at 2
	fields []int64
	met    int // the last walk of [gobScanner.prepare] that came here
}

// gobPair is what the decoder prepares itself for: to read the type of an ID into
// the type that a name is registered for.
type gobPair struct {
	name string
	id   int64
}

type gobScanner struct {
	stream  []byte // the messages to come
	rest    []byte // what is left of the present one
	end     int    // how much of rest is left where the present value of an interface, or its present piece, ends
	types   map[int64]*gobType
	decodes map[gobPair]bool
	budget  int
	bad     bool // nothing that was read counts
}

func (s *gobScanner) fail() {
	s.bad, s.rest, s.stream = true, nil, nil
}

func (s *gobScanner) uint() uint64 { return s.uintFrom(&s.rest) }

func (s *gobScanner) uintFrom(src *[]byte) uint64 {
	if len(*src) == 0 {
		s.fail()
		return 0
	}
	first := (*src)[0]
	*src = (*src)[1:]
	if first < 0x80 {
		return uint64(first)
	}
	size := 0x100 - int(first)
	if size > 8 || size > len(*src) {
		s.fail()
		return 0
	}
	var u uint64
	for _, b := range (*src)[:size] {
		u = u<<8 | uint64(b)
	}
	*src = (*src)[size:]
	return u
}

func (s *gobScanner) int() int64 {
	u := s.uint()
	if u&1 != 0 {
		return ^int64(u >> 1)
	}
	return int64(u >> 1)
}

// count reads how many bytes or elements follow. Every element takes a byte at least.
func (s *gobScanner) count() int {
	n := s.uint()
	if n > uint64(len(s.rest)) {
		s.fail()
		return 0
	}
	return int(n)
}

// text reads a string, or what is written like one.
func (s *gobScanner) text() []byte {
	n := s.count()
	text := s.rest[:n]
	s.rest = s.rest[n:]
	return text
}

// structFields calls field for every field of a struct that is there.
func (s *gobScanner) structFields(field func(i int64)) {
	for i := int64(-1); ; field(i) {
		delta := s.uint()
		if s.bad || delta == 0 {
			return
		}
		if i += int64(delta); i < 0 || i > 1<<20 {
			s.fail()
			return
		}
	}
}

// typeSequence reads the definitions of types that stand in front of a value, and
// returns the ID of the value's type.
func (s *gobScanner) typeSequence(outermost bool) int64 {
	for !s.bad {
		if len(s.rest) == 0 && outermost {
			size := s.uintFrom(&s.stream)
			if size > uint64(len(s.stream)) {
				s.fail()
				break
			}
			s.rest, s.stream = s.stream[:size], s.stream[size:]
		}
		id := s.int()
		if id >= 0 {
			return id
		}
		s.define(-id)
		if len(s.rest) > 0 {
			s.endPiece()
			s.beginPiece()
		}
	}
	return 0
}

// A definition cuts the value that it stands in into pieces, each with its length.

func (s *gobScanner) beginPiece() {
	n := s.count()
	s.end = len(s.rest) - n
}

func (s *gobScanner) endPiece() {
	if len(s.rest) != s.end {
		s.fail()
	}
}

// define reads the definition of a type.
func (s *gobScanner) define(id int64) {
	t := &gobType{kind: -1}
	s.structFields(func(kind int64) {
		if t.kind >= 0 {
			s.fail()
		}
		t.kind = int(kind)
		s.structFields(func(i int64) {
			switch {
			case i == 0: // the name, which counts for nothing, and the ID again
				s.nameAndID()
			case kind == gobStruct && i == 1:
				for range s.count() {
					t.fields = append(t.fields, s.nameAndID())
				}
			case i < int64(len(t.of)):
				t.of[i] = s.int()
			default:
				s.fail()
			}
		})
	})
	if t.kind < 0 || s.types[id] != nil {
		s.fail()
	}
	s.types[id] = t
}

// nameAndID reads a struct of a string and an ID.
func (s *gobScanner) nameAndID() (id int64) {
	s.structFields(func(i int64) {
		if i == 0 {
			s.text()
		} else {
			id = s.int()
		}
	})
	return id
}

func (s *gobScanner) interfaceValue(depth int) {
	name := string(s.text())
	if name == "" {
		return
	}
	id := s.typeSequence(depth == 0)
	if pair := (gobPair{name, id}); !s.decodes[pair] {
		s.decodes[pair] = true
		s.prepare(id)
	}
	outer := s.end
	s.beginPiece()
	if t := s.types[id]; (t == nil || t.kind != gobStruct) && s.uint() != 0 {
		s.fail()
	}
	s.value(id, depth)
	s.endPiece()
	s.end = outer
}

func (s *gobScanner) value(id int64, depth int) {
	if depth > maxDepth {
		s.fail()
	}
	if s.bad {
		return
	}
	switch id {
	case gobBool, gobInt, gobUint, gobFloat:
		s.uint()
		return
	case gobComplex:
		s.uint()
		s.uint()
		return
	case gobBytes, gobString:
		s.text()
		return
	case gobInterface:
		s.interfaceValue(depth + 1)
		return
	}
	t := s.types[id]
	if t == nil {
		s.fail()
		return
	}
	switch t.kind {
	case gobArray, gobSlice:
		for n := s.count(); n > 0 && !s.bad; n-- {
			s.value(t.of[1], depth+1)
		}
	case gobMap:
		for n := s.count(); n > 0 && !s.bad; n-- {
			s.value(t.of[1], depth+1)
			s.value(t.of[2], depth+1)
		}
	case gobStruct:
		s.structFields(func(i int64) {
			if i >= int64(len(t.fields)) {
				s.fail()
				return
			}
			s.value(t.fields[i], depth+1)
		})
	default:
		s.text()
	}
}

// prepare charges for what the decoder does before it reads a type for the first
// time: it visits the type's parts, a struct once, all others as often as
// they are used.
func (s *gobScanner) prepare(id int64) {
	s.visit(id, len(s.decodes), 0)
}

func (s *gobScanner) visit(id int64, walk, depth int) {
	s.budget--
	if s.budget < 0 || depth > maxDepth {
		s.fail()
	}
	t := s.types[id]
	if s.bad || t == nil || t.met == walk {
		return
	}
	t.met = walk
	for _, part := range t.fields {
		s.visit(part, walk, depth+1)
	}
	if t.kind != gobStruct {
		if t.kind == gobMap {
			s.visit(t.of[2], walk, depth+1)
		}
		if t.kind < gobOpaque {
			s.visit(t.of[1], walk, depth+1)
		}
		t.met = 0
	}
}
