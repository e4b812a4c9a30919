package fakemongo

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// change applies an update with operators to a document, of which nothing is changed on an
// error. It reports whether anything is another than before.
func change(doc, update bson.D) (bson.D, bool, error) {
	type step struct {
		operator, path string
		value          any
	}
	var steps []step
	for _, e := range update {
		fields, ok := e.Value.(bson.D)
		if !ok {
			return nil, false, &commandError{9, "FailedToParse", fmt.Sprintf("modifiers operate on fields, but %s has none", e.Key)}
		}
		switch e.Key {
		case "$set", "$unset", "$inc", "$max", "$min", "$setOnInsert":
		default:
			return nil, false, &commandError{9, "FailedToParse", "unknown modifier: " + e.Key}
		}
		if e.Key == "$setOnInsert" {
			continue // nothing is inserted
		}
		for _, f := range fields {
			steps = append(steps, step{e.Key, f.Key, f.Value})
		}
	}
	for i, a := range steps {
		if a.path == "" || strings.Contains("."+a.path+".", "..") {
			return nil, false, &commandError{56, "EmptyFieldName", "an empty field name in a path"}
		}
		for _, b := range steps[:i] {
			if a.path == b.path || strings.HasPrefix(a.path, b.path+".") || strings.HasPrefix(b.path, a.path+".") {
				return nil, false, &commandError{40, "ConflictingUpdateOperators", "updating the path '" + a.path + "' would create a conflict"}
			}
		}
	}
	// Fields that are new are added in the order of their names.
	slices.SortStableFunc(steps, func(a, b step) int { return strings.Compare(a.path, b.path) })
	next, changed := clone(doc), false
	for _, s := range steps {
		path := strings.Split(s.path, ".")
		v, did, err := apply(next, path, s.operator, s.value)
		if err != nil {
			return nil, false, err
		}
		next, changed = v.(bson.D), changed || did
	}
	if !equal(lookup(doc, "_id"), lookup(next, "_id")) || !has(next, "_id") {
		return nil, false, &commandError{66, "ImmutableField", "the field '_id' cannot be changed"}
	}
	return next, changed, nil
}

// apply carries out one operator at a path below v, which it changes in place where it can.
func apply(v any, path []string, operator string, arg any) (any, bool, error) {
	switch held := v.(type) {
	case bson.D:
		i := slices.IndexFunc(held, func(e bson.E) bool { return e.Key == path[0] })
		switch {
		case len(path) == 1:
			if operator == "$unset" {
				if i < 0 {
					return held, false, nil
				}
				return slices.Delete(held, i, i+1), true, nil
			}
			if i < 0 {
				if operator == "$inc" && class(arg) != 2 {
					return nil, false, notNumeric("cannot increment with non-numeric argument")
				}
				return append(held, bson.E{Key: path[0], Value: arg}), true, nil
			}
			after, err := combine(held[i].Value, operator, arg)
			if err != nil {
				return nil, false, err
			}
			did := !same(held[i].Value, after)
			held[i].Value = after
			return held, did, nil
		case i < 0:
			if operator == "$unset" {
				return held, false, nil
			}
			sub, did, err := apply(bson.D{}, path[1:], operator, arg)
			if err != nil {
				return nil, false, err
			}
			return append(held, bson.E{Key: path[0], Value: sub}), did, nil
		}
		sub, did, err := apply(held[i].Value, path[1:], operator, arg)
		if err != nil {
			return nil, false, err
		}
		held[i].Value = sub
		return held, did, nil
	case bson.A:
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i > 1000 {
			if operator == "$unset" {
				return v, false, nil
			}
			return nil, false, notViable(path[0])
		}
		if i >= len(held) {
			if operator == "$unset" {
				return v, false, nil
			}
			for len(held) <= i {
				held = append(held, nil)
			}
		}
		if len(path) > 1 {
			sub, did, err := apply(held[i], path[1:], operator, arg)
			if err != nil {
				return nil, false, err
			}
			held[i] = sub
			return held, did, nil
		}
		if operator == "$unset" {
			did := held[i] != nil
			held[i] = nil
			return held, did, nil
		}
		after, err := combine(held[i], operator, arg)
		if err != nil {
			return nil, false, err
		}
		held[i] = after
		return held, true, nil
	}
	if operator == "$unset" {
		return v, false, nil
	}
	return nil, false, notViable(path[0])
}

func notViable(field string) error {
	return &commandError{28, "PathNotViable", "cannot create field '" + field + "' in an element that is no document"}
}

func notNumeric(message string) error { return &commandError{14, "TypeMismatch", message} }

// combine returns what a field holds after an operator.
func combine(held any, operator string, arg any) (any, error) {
	switch operator {
	case "$set":
		return arg, nil
	case "$max":
		if compare(arg, held) > 0 {
			return arg, nil
		}
		return held, nil
	case "$min":
		if compare(arg, held) < 0 {
			return arg, nil
		}
		return held, nil
	}
	// $inc
	if class(arg) != 2 {
		return nil, notNumeric("cannot increment with non-numeric argument")
	}
	if class(held) != 2 {
		return nil, notNumeric("cannot apply $inc to a value of non-numeric type")
	}
	x, xWhole := whole(held)
	y, yWhole := whole(arg)
	if !xWhole || !yWhole {
		f, _ := float(held).Float64()
		g, _ := float(arg).Float64()
		return f + g, nil
	}
	sum := x + y
	if (sum > x) != (y > 0) && y != 0 {
		return nil, badValue("failed to apply $inc operations to current value")
	}
	_, small := held.(int32)
	_, smallToo := arg.(int32)
	if small && smallToo && sum >= math.MinInt32 && sum <= math.MaxInt32 {
		return int32(sum), nil
	}
	return sum, nil
}

// same reports whether two values are the same in type as well.
func same(a, b any) bool {
	x, errX := bson.Marshal(bson.D{{Key: "", Value: a}})
	y, errY := bson.Marshal(bson.D{{Key: "", Value: b}})
	return errX == nil && errY == nil && string(x) == string(y)
}
