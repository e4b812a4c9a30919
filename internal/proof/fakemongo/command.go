package fakemongo

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// collection is the documents, in the order of insertion.
type collection struct{ docs []bson.D }

func (s *Server) collection(name string) *collection {
	if s.colls == nil {
		s.colls = map[string]*collection{}
	}
	c := s.colls[name]
	if c == nil {
		c = &collection{}
		s.colls[name] = c
	}
	return c
}

func failure(code int32, name, message string) bson.D {
	return bson.D{
		{Key: "ok", Value: 0.0},
		{Key: "errmsg", Value: message},
		{Key: "code", Value: code},
		{Key: "codeName", Value: name},
	}
}

// Failure returns the reply of a server that refuses a command.
func Failure(code int32, name string) bson.D { return failure(code, name, "by the test") }

// ConcernError returns what a reply has of a write that was carried out, and whose write concern
// was not met.
func ConcernError(code int32, name string) bson.D {
	return bson.D{{Key: "writeConcernError", Value: bson.D{
		{Key: "code", Value: code}, {Key: "codeName", Value: name}, {Key: "errmsg", Value: "by the test"},
	}}}
}

// run carries out a command.
func (s *Server) run(c *Command) bson.D {
	var reply bson.D
	var err error
	switch c.Name {
	case "find":
		reply, err = s.find(c)
	case "aggregate":
		reply, err = s.aggregate(c)
	case "getMore":
		reply, err = s.getMore(c)
	case "insert":
		reply, err = s.insert(c)
	case "update":
		reply, err = s.update(c)
	case "delete":
		reply, err = s.remove(c)
	case "createIndexes":
		reply = bson.D{{Key: "numIndexesBefore", Value: int32(1)}, {Key: "numIndexesAfter", Value: int32(2)}}
	case "listIndexes":
		reply = firstBatch(c, nil, 0)
	default:
		return failure(59, "CommandNotFound", "no such command: '"+c.Name+"'")
	}
	if err != nil {
		var e *commandError
		if !errors.As(err, &e) {
			return failure(8, "UnknownError", err.Error())
		}
		return failure(e.code, e.name, e.message)
	}
	return append(reply, bson.E{Key: "ok", Value: 1.0})
}

func firstBatch(c *Command, docs []bson.D, cursor int64) bson.D {
	return batch(c, "firstBatch", docs, cursor)
}

func batch(c *Command, name string, docs []bson.D, cursor int64) bson.D {
	list := bson.A{}
	for _, doc := range docs {
		list = append(list, doc)
	}
	database, _ := lookup(c.Body, "$db").(string)
	return bson.D{{Key: "cursor", Value: bson.D{
		{Key: name, Value: list}, {Key: "id", Value: cursor}, {Key: "ns", Value: database + "." + c.Collection},
	}}}
}

// knows fails if the command has a field that is not among those named, or one that any may have.
func (c *Command) knows(fields ...string) error {
	general := []string{"$db", "lsid", "txnNumber", "$clusterTime", "$readPreference", "maxTimeMS", "writeConcern", "readConcern", "comment", "ordered", "apiVersion"}
	for _, e := range c.Body[1:] {
		if !slices.Contains(fields, e.Key) && !slices.Contains(general, e.Key) {
			return &commandError{40415, "Location40415", "BSON field '" + c.Name + "." + e.Key + "' is an unknown field"}
		}
	}
	return nil
}

func (s *Server) find(c *Command) (bson.D, error) {
	if err := c.knows("filter", "sort", "projection", "limit", "batchSize", "singleBatch"); err != nil {
		return nil, err
	}
	filter, _ := lookup(c.Body, "filter").(bson.D)
	s.mu.Lock()
	defer s.mu.Unlock()
	docs, err := s.matching(c.Collection, filter)
	if err != nil {
		return nil, err
	}
	if order, _ := lookup(c.Body, "sort").(bson.D); len(order) > 0 {
		slices.SortStableFunc(docs, func(a, b bson.D) int {
			for _, e := range order {
				x, y := first(resolve(a, strings.Split(e.Key, "."))), first(resolve(b, strings.Split(e.Key, ".")))
				if d := compare(x, y); d != 0 {
					return d * compareNumbers(e.Value, int32(0))
				}
			}
			return 0
		})
	}
	limit := integer(lookup(c.Body, "limit"))
	if limit < 0 {
		limit = -limit
	}
	if limit > 0 && len(docs) > limit {
		docs = docs[:limit]
	}
	if projection, _ := lookup(c.Body, "projection").(bson.D); len(projection) > 0 {
		for i := range docs {
			if docs[i], err = project(docs[i], projection); err != nil {
				return nil, err
			}
		}
	}
	size := len(docs)
	if has(c.Body, "batchSize") {
		size = min(size, integer(lookup(c.Body, "batchSize")))
	}
	var cursor int64
	if single, _ := lookup(c.Body, "singleBatch").(bool); size < len(docs) && !single {
		cursor = s.keep(docs[size:])
	}
	return firstBatch(c, docs[:size], cursor), nil
}

func (s *Server) keep(docs []bson.D) int64 {
	s.cursor++
	if s.cursors == nil {
		s.cursors = map[int64][]bson.D{}
	}
	s.cursors[s.cursor] = docs
	return s.cursor
}

func (s *Server) getMore(c *Command) (bson.D, error) {
	if err := c.knows("collection", "batchSize"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _ := c.Body[0].Value.(int64)
	docs, ok := s.cursors[id]
	if !ok {
		return nil, &commandError{43, "CursorNotFound", "cursor not found"}
	}
	delete(s.cursors, id)
	size := len(docs)
	if n := integer(lookup(c.Body, "batchSize")); n > 0 {
		size = min(size, n)
	}
	var next int64
	if size < len(docs) {
		next = s.keep(docs[size:])
	}
	return batch(c, "nextBatch", docs[:size], next), nil
}

// aggregate knows the pipeline of a count.
func (s *Server) aggregate(c *Command) (bson.D, error) {
	if err := c.knows("pipeline", "cursor"); err != nil {
		return nil, err
	}
	pipeline, _ := lookup(c.Body, "pipeline").(bson.A)
	s.mu.Lock()
	defer s.mu.Unlock()
	docs, err := s.matching(c.Collection, nil)
	if err != nil {
		return nil, err
	}
	for _, stage := range pipeline {
		stage, _ := stage.(bson.D)
		if len(stage) != 1 {
			return nil, badValue("a stage must have exactly one field")
		}
		switch stage[0].Key {
		case "$match":
			filter, _ := stage[0].Value.(bson.D)
			var kept []bson.D
			for _, doc := range docs {
				ok, err := match(doc, filter)
				if err != nil {
					return nil, err
				}
				if ok {
					kept = append(kept, doc)
				}
			}
			docs = kept
		case "$group":
			count := bson.D{{Key: "_id", Value: int32(1)}, {Key: "n", Value: bson.D{{Key: "$sum", Value: int32(1)}}}}
			if group, _ := stage[0].Value.(bson.D); !equal(group, count) {
				return nil, badValue("this $group is not supported")
			}
			if n := int32(len(docs)); n > 0 {
				docs = []bson.D{{{Key: "_id", Value: int32(1)}, {Key: "n", Value: n}}}
			}
		default:
			return nil, badValue("stage %s is not supported", stage[0].Key)
		}
	}
	return firstBatch(c, docs, 0), nil
}

func first(values []any) any {
	if len(values) == 0 {
		return nil
	}
	return values[0]
}

func integer(v any) int {
	i, _ := whole(v)
	if f, ok := v.(float64); ok {
		i = int64(f)
	}
	return int(i)
}

func project(doc, projection bson.D) (bson.D, error) {
	include := false
	for _, e := range projection {
		if strings.ContainsAny(e.Key, ".$") {
			return nil, badValue("projection of %s is not supported", e.Key)
		}
		include = include || e.Key != "_id" && truth(e.Value)
	}
	out := bson.D{}
	for _, e := range doc {
		named := has(projection, e.Key)
		if named && truth(lookup(projection, e.Key)) || !named && (!include || e.Key == "_id") {
			out = append(out, e)
		}
	}
	return out, nil
}

// matching returns copies of the documents that match.
func (s *Server) matching(name string, filter bson.D) ([]bson.D, error) {
	var docs []bson.D
	for _, doc := range s.collection(name).docs {
		ok, err := match(doc, filter)
		if err != nil {
			return nil, err
		}
		if ok {
			docs = append(docs, clone(doc))
		}
	}
	if len(docs) == 0 { // or a filter that cannot be would pass in an empty collection
		if _, err := match(bson.D{}, filter); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// writeErrors returns the part of a reply that describes the failure.
func writeErrors(reply bson.D, index int, err error) (bson.D, error) {
	var e *commandError
	if !errors.As(err, &e) {
		return nil, err
	}
	return append(reply, bson.E{Key: "writeErrors", Value: bson.A{bson.D{
		{Key: "index", Value: int32(index)}, {Key: "code", Value: e.code}, {Key: "errmsg", Value: e.message},
	}}}), nil
}

func (s *Server) insert(c *Command) (bson.D, error) {
	if err := c.knows("documents", "bypassDocumentValidation"); err != nil {
		return nil, err
	}
	docs, _ := lookup(c.Body, "documents").(bson.A)
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.collection(c.Collection)
	for i, doc := range docs {
		doc, _ := doc.(bson.D)
		id := lookup(doc, "_id")
		if !has(doc, "_id") {
			return nil, badValue("a document without _id is not supported")
		}
		if slices.ContainsFunc(held.docs, func(d bson.D) bool { return equal(lookup(d, "_id"), id) }) {
			return writeErrors(bson.D{{Key: "n", Value: int32(i)}}, i, &commandError{
				11000, "DuplicateKey",
				"E11000 duplicate key error collection: " + c.Collection + " index: _id_ dup key",
			})
		}
		held.docs = append(held.docs, clone(doc))
	}
	return bson.D{{Key: "n", Value: int32(len(docs))}}, nil
}

func (s *Server) update(c *Command) (bson.D, error) {
	if err := c.knows("updates", "bypassDocumentValidation"); err != nil {
		return nil, err
	}
	updates, _ := lookup(c.Body, "updates").(bson.A)
	s.mu.Lock()
	defer s.mu.Unlock()
	var n, modified int32
	reply := func() bson.D { return bson.D{{Key: "n", Value: n}, {Key: "nModified", Value: modified}} }
	for i, u := range updates {
		u, _ := u.(bson.D)
		if err := unknownIn(u, "q", "u", "multi", "upsert"); err != nil {
			return nil, err
		}
		if truth(lookup(u, "multi")) || truth(lookup(u, "upsert")) {
			return nil, badValue("an upsert, or an update of many, is not supported")
		}
		filter, _ := lookup(u, "q").(bson.D)
		update, ok := lookup(u, "u").(bson.D)
		if !ok {
			return nil, badValue("an update by a pipeline is not supported")
		}
		did, changed, err := s.updateOne(c.Collection, filter, update)
		if err != nil {
			return writeErrors(reply(), i, err)
		}
		if did {
			n++
		}
		if changed {
			modified++
		}
	}
	return reply(), nil
}

func unknownIn(doc bson.D, known ...string) error {
	for _, e := range doc {
		if !slices.Contains(known, e.Key) {
			return badValue("field %s is not supported", e.Key)
		}
	}
	return nil
}

func (s *Server) updateOne(name string, filter, update bson.D) (matched, changed bool, err error) {
	if _, err := match(bson.D{}, filter); err != nil {
		return false, false, err
	}
	held := s.collection(name)
	for i, doc := range held.docs {
		ok, err := match(doc, filter)
		if err != nil {
			return false, false, err
		}
		if !ok {
			continue
		}
		if len(update) > 0 && strings.HasPrefix(update[0].Key, "$") {
			next, changed, err := change(doc, update)
			if err != nil {
				return false, false, err
			}
			held.docs[i] = next
			return true, changed, nil
		}
		next := clone(update)
		if !has(next, "_id") {
			next = slices.Insert(next, 0, bson.E{Key: "_id", Value: lookup(doc, "_id")})
		} else if !equal(lookup(next, "_id"), lookup(doc, "_id")) {
			return false, false, &commandError{66, "ImmutableField", "the field '_id' cannot be changed"}
		}
		held.docs[i] = next
		return true, !same(doc, next), nil
	}
	return false, false, nil
}

func (s *Server) remove(c *Command) (bson.D, error) {
	if err := c.knows("deletes"); err != nil {
		return nil, err
	}
	deletes, _ := lookup(c.Body, "deletes").(bson.A)
	var n int32
	for i, d := range deletes {
		d, _ := d.(bson.D)
		if err := unknownIn(d, "q", "limit"); err != nil {
			return nil, err
		}
		filter, _ := lookup(d, "q").(bson.D)
		many := integer(lookup(d, "limit")) == 0
		removed, err := s.removeMatching(c, filter, many)
		n += removed
		if err != nil {
			return writeErrors(bson.D{{Key: "n", Value: n}}, i, err)
		}
	}
	return bson.D{{Key: "n", Value: n}}, nil
}

func (s *Server) removeMatching(c *Command, filter bson.D, many bool) (int32, error) {
	s.mu.Lock()
	docs, err := s.matching(c.Collection, filter)
	if err == nil && !many && len(docs) > 0 {
		docs = docs[:1]
		_, err = s.removeThose(c.Collection, docs, filter)
		s.mu.Unlock()
		return 1, err
	}
	s.mu.Unlock()
	if err != nil || !many {
		return 0, err
	}
	// The server has looked at the documents there are. Those that come now it may miss.
	if s.Intercept != nil {
		s.Intercept(&Command{Name: "deleting", From: c.From, RequestID: c.RequestID, Collection: c.Collection, Body: c.Body})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removeThose(c.Collection, docs, filter)
}

// removeThose removes the documents with the same _id as those given which match still.
func (s *Server) removeThose(name string, those []bson.D, filter bson.D) (n int32, err error) {
	held := s.collection(name)
	held.docs = slices.DeleteFunc(held.docs, func(doc bson.D) bool {
		if !slices.ContainsFunc(those, func(d bson.D) bool { return equal(lookup(d, "_id"), lookup(doc, "_id")) }) {
			return false
		}
		ok, errMatch := match(doc, filter)
		err = cmp.Or(err, errMatch)
		if ok {
			n++
		}
		return ok
	})
	return n, err
}
