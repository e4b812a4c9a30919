package safegob

import "errors"

var errMalformed = errors.New("malformed gob")

// scan refuses what [Encode] does not write: counts of more elements than there are bytes
// left, values nested more than maxDepth levels deep, and type definitions that cost
// far more to prepare for than they have bytes. It returns the name of the value's type.
//
// The format is described at the end of encoding/gob's doc.go.
func scan(encoded []byte) (name string, err error) {
	s := scanner{
		stream:  encoded,
		types:   map[int64]*wireType{},
		engines: map[engine]bool{},
		budget:  1000 + 4*len(encoded),
	}
	if s.typeSequence(true) != idInterface || s.uint() != 0 {
		return "", errMalformed
	}
	name = s.interfaceValue(0)
	if s.bad || len(s.rest)+len(s.stream) > 0 {
		return "", errMalformed
	}
	return name, nil
}

// The IDs of gob's basic types.
const (
	idBool = iota + 1
	idInt
	idUint
	idFloat
	idBytes
	idString
	idComplex
	idInterface
)

// The kinds of types that a stream defines, in the order of gob's wireType.
const (
	kindArray = iota
	kindSlice
	kindStruct
	kindMap
	kindOpaque // this one and those after it encode themselves
)

type wireType struct {
	kind   int
	of     [3]int64 // the element of an array or slice at 1; a map's key at 1, its element at 2
	fields []int64
	met    int // the last walk of [scanner.prepare] that visited it
}

// engine identifies a decoding engine of gob: a registered type's name and a type ID of
// the stream.
type engine struct {
	name string
	id   int64
}

type scanner struct {
	stream  []byte // the messages to come
	rest    []byte // what is left of the current one
	end     int    // len(rest) at the end of the current interface value, or of its current piece
	types   map[int64]*wireType
	engines map[engine]bool
	budget  int
	bad     bool // the input was refused
}

func (s *scanner) fail() {
	s.bad, s.rest, s.stream = true, nil, nil
}

func (s *scanner) uint() uint64 { return s.uintFrom(&s.rest) }

func (s *scanner) uintFrom(src *[]byte) uint64 {
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

func (s *scanner) int() int64 {
	u := s.uint()
	if u&1 != 0 {
		return ^int64(u >> 1)
	}
	return int64(u >> 1)
}

// count reads how many bytes or elements follow. Every element has at least one byte.
func (s *scanner) count() int {
	n := s.uint()
	if n > uint64(len(s.rest)) {
		s.fail()
		return 0
	}
	return int(n)
}

// text reads a string, or bytes.
func (s *scanner) text() []byte {
	n := s.count()
	text := s.rest[:n]
	s.rest = s.rest[n:]
	return text
}

// structFields calls field for every field of a struct that is present.
func (s *scanner) structFields(field func(i int64)) {
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

// typeSequence reads the type definitions before a value. It returns the ID of the
// value's type.
func (s *scanner) typeSequence(outermost bool) int64 {
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

// A type definition cuts the value that contains it into pieces, each with its length.

func (s *scanner) beginPiece() {
	n := s.count()
	s.end = len(s.rest) - n
}

func (s *scanner) endPiece() {
	if len(s.rest) != s.end {
		s.fail()
	}
}

// define reads the definition of a type.
func (s *scanner) define(id int64) {
	t := &wireType{kind: -1}
	s.structFields(func(kind int64) {
		if t.kind >= 0 {
			s.fail()
		}
		t.kind = int(kind)
		s.structFields(func(i int64) {
			switch {
			case i == 0: // the name, which is not used, and the ID again
				s.nameAndID()
			case kind == kindStruct && i == 1:
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
func (s *scanner) nameAndID() (id int64) {
	s.structFields(func(i int64) {
		if i == 0 {
			s.text()
		} else {
			id = s.int()
		}
	})
	return id
}

// interfaceValue returns the name of the value's type.
func (s *scanner) interfaceValue(depth int) string {
	name := string(s.text())
	if name == "" {
		return ""
	}
	id := s.typeSequence(depth == 0)
	if pair := (engine{name, id}); !s.engines[pair] {
		s.engines[pair] = true
		s.prepare(id)
	}
	outer := s.end
	s.beginPiece()
	if t := s.types[id]; (t == nil || t.kind != kindStruct) && s.uint() != 0 {
		s.fail()
	}
	s.value(id, depth)
	s.endPiece()
	s.end = outer
	return name
}

func (s *scanner) value(id int64, depth int) {
	if depth > maxDepth {
		s.fail()
	}
	if s.bad {
		return
	}
	switch id {
	case idBool, idInt, idUint, idFloat:
		s.uint()
		return
	case idComplex:
		s.uint()
		s.uint()
		return
	case idBytes, idString:
		s.text()
		return
	case idInterface:
		s.interfaceValue(depth + 1)
		return
	}
	t := s.types[id]
	if t == nil {
		s.fail()
		return
	}
	switch t.kind {
	case kindArray, kindSlice:
		for n := s.count(); n > 0 && !s.bad; n-- {
			s.value(t.of[1], depth+1)
		}
	case kindMap:
		for n := s.count(); n > 0 && !s.bad; n-- {
			s.value(t.of[1], depth+1)
			s.value(t.of[2], depth+1)
		}
	case kindStruct:
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

// prepare charges for the decoder's work before it reads a type for the first time: it
// visits the type's parts, a struct once, all others as often as they are used.
func (s *scanner) prepare(id int64) {
	s.visit(id, len(s.engines), 0)
}

func (s *scanner) visit(id int64, walk, depth int) {
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
	if t.kind != kindStruct {
		if t.kind == kindMap {
			s.visit(t.of[2], walk, depth+1)
		}
		if t.kind < kindOpaque {
			s.visit(t.of[1], walk, depth+1)
		}
		t.met = 0
	}
}
