package fakemongo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// match reports whether a document matches a filter.
func match(doc, filter bson.D) (bool, error) {
	for _, e := range filter {
		ok, err := matchElement(doc, e)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func matchElement(doc bson.D, e bson.E) (bool, error) {
	switch {
	case e.Key == "$and", e.Key == "$or", e.Key == "$nor":
		list, ok := e.Value.(bson.A)
		if !ok || len(list) == 0 {
			return false, badValue("%s must be a nonempty array", e.Key)
		}
		some, all := false, true
		for _, v := range list {
			f, ok := v.(bson.D)
			if !ok {
				return false, badValue("%s entries need to be full objects", e.Key)
			}
			ok, err := match(doc, f)
			if err != nil {
				return false, err
			}
			some, all = some || ok, all && ok
		}
		switch e.Key {
		case "$and":
			return all, nil
		case "$or":
			return some, nil
		}
		return !some, nil
	case e.Key == "$comment":
		return true, nil
	case strings.HasPrefix(e.Key, "$"):
		return false, badValue("unknown top level operator: %s", e.Key)
	}
	found := resolve(doc, strings.Split(e.Key, "."))
	operators, ok := e.Value.(bson.D)
	if !ok || len(operators) == 0 || !strings.HasPrefix(operators[0].Key, "$") {
		return matchOperator(found, "$eq", e.Value)
	}
	for _, op := range operators {
		ok, err := matchOperator(found, op.Key, op.Value)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// resolve returns the values at a path. An array on the way is entered, by index
// and by each of its documents.
func resolve(v any, path []string) []any {
	if len(path) == 0 {
		return []any{v}
	}
	switch v := v.(type) {
	case bson.D:
		if has(v, path[0]) {
			return resolve(lookup(v, path[0]), path[1:])
		}
	case bson.A:
		var all []any
		if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(v) {
			all = append(all, resolve(v[i], path[1:])...)
		}
		for _, element := range v {
			if d, ok := element.(bson.D); ok {
				all = append(all, resolve(d, path)...)
			}
		}
		return all
	}
	return nil
}

func matchOperator(found []any, operator string, want any) (bool, error) {
	switch operator {
	case "$eq":
		if class(want) == 1 && len(found) == 0 {
			return true, nil
		}
		return anyOf(found, func(v any) bool { return equal(v, want) }), nil
	case "$ne":
		ok, err := matchOperator(found, "$eq", want)
		return !ok, err
	case "$gt", "$gte", "$lt", "$lte":
		return anyOf(found, func(v any) bool {
			if class(v) != class(want) || isNaN(v) != isNaN(want) {
				return false
			}
			c := compare(v, want)
			switch operator {
			case "$gt":
				return c > 0
			case "$gte":
				return c >= 0
			case "$lt":
				return c < 0
			}
			return c <= 0
		}) || len(found) == 0 && class(want) == 1 && strings.HasSuffix(operator, "e"), nil
	case "$exists":
		return (len(found) > 0) == truth(want), nil
	case "$in", "$nin":
		list, ok := want.(bson.A)
		if !ok {
			return false, badValue("%s needs an array", operator)
		}
		is := false
		for _, w := range list {
			ok, _ := matchOperator(found, "$eq", w)
			is = is || ok
		}
		return is == (operator == "$in"), nil
	case "$not":
		operators, ok := want.(bson.D)
		if !ok {
			return false, badValue("$not needs a document")
		}
		for _, op := range operators {
			ok, err := matchOperator(found, op.Key, op.Value)
			if err != nil || !ok {
				return true, err
			}
		}
		return false, nil
	}
	return false, badValue("unknown operator: %s", operator)
}

// anyOf reports whether one of the values, or of the elements of those that are arrays, passes.
func anyOf(found []any, pass func(any) bool) bool {
	return slices.ContainsFunc(found, func(v any) bool {
		list, _ := v.(bson.A)
		return pass(v) || slices.ContainsFunc(list, pass)
	})
}

func isNaN(v any) bool {
	f, ok := v.(float64)
	return ok && f != f
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int32:
		return v != 0
	case int64:
		return v != 0
	case float64:
		return v != 0
	}
	return true
}

// commandError is a failure with a code.
type commandError struct {
	code          int32
	name, message string
}

func (e *commandError) Error() string { return e.message }

func badValue(format string, args ...any) error {
	return &commandError{2, "BadValue", fmt.Sprintf(format, args...)}
}
