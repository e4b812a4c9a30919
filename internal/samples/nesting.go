package samples

import (
	"fmt"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Nesting is a value that is nested in others of one shape.
type Nesting struct {
	Name   string
	Value  any
	Deeper func(inner any) any // returns the shape around a value
}

// Nestings returns values that are nested up to 500 times. MongoDB accepts a hundred levels.
func Nestings() []Nesting {
	shapes := map[string]func(inner any) any{
		"list":   func(inner any) any { return []any{1, inner} },
		"map":    func(inner any) any { return map[string]any{"a": 1, "b": inner} },
		"tagged": func(inner any) any { return map[string]any{"_type": inner} },
		"typed":  func(inner any) any { return []map[string]any{{"a": inner}} },
		"named":  func(inner any) any { return Chain{inner} },
		"struct": func(inner any) any { return &Profile{Extra: inner} },
		"mixed":  func(inner any) any { return []any{&Profile{Extra: []any{inner}}} },
	}
	var all []Nesting
	for shape, wrap := range shapes {
		for _, depth := range []int{1, 10, 39, 40, 41, 79, 80, 81, 100, 500} {
			var value any = "core"
			for range depth {
				value = wrap(value)
			}
			all = append(all, Nesting{fmt.Sprint(shape, " ", depth), value, wrap})
		}
	}
	return all
}

// Levels returns how deep documents and arrays are nested.
func Levels(doc bson.Raw) int {
	elements, err := doc.Elements()
	if err != nil {
		return math.MaxInt
	}
	deepest := 0
	for _, e := range elements {
		switch v := e.Value(); v.Type {
		case bson.TypeArray, bson.TypeEmbeddedDocument:
			deepest = max(deepest, Levels(bson.Raw(v.Value)))
		}
	}
	return deepest + 1
}

// DeepDocument returns a document in a document, and so on to the depth.
func DeepDocument(depth int) any {
	var doc any = bson.D{}
	for range depth {
		doc = bson.D{{Key: "a", Value: doc}}
	}
	return doc
}
