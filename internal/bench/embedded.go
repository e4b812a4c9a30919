package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"go.mongodb.org/mongo-driver/v2/mongo"
	_ "modernc.org/sqlite" // the files of the embedded server
)

// The embedded server, FerretDB 1.24 on SQLite, has an index on _id that it does not use: the
// index is on another expression than the one in its queries, so each find, update and
// delete reads the collection from its beginning. MongoDB does not do that, and
// what is measured here must not depend on how many documents earlier measurements have
// left. So the server gets the index that it should have.

// EmbeddedNote describes that to the readers of the figures.
const EmbeddedNote = "The embedded server, FerretDB 1.24 on SQLite, has an index on `_id` that its queries do not use. Without another one it " +
	"reads\na collection from the beginning to find a session. For the measurement it was given an index that its queries use.\n"

// indexEmbedded creates the indexes for all collections of the database, in its file in dir.
func indexEmbedded(ctx context.Context, dir, database string) (err error) {
	location := url.URL{Scheme: "file", Path: filepath.Join(dir, database+".sqlite"), RawQuery: "_pragma=busy_timeout(10000)&mode=rw"}
	db, err := sql.Open("sqlite", location.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `SELECT table_name FROM _ferretdb_collections`)
	if err != nil {
		return err
	}
	var tables []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			return errors.Join(err, rows.Close())
		}
		tables = append(tables, table)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, table := range tables {
		statement := fmt.Sprintf(`CREATE INDEX IF NOT EXISTS %q ON %q (_ferretdb_sjson->'$._id')`, table+"_bench_id", table)
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// prepare creates the contenders' collections, and what the server lacks for them.
func (e *Env) prepare(ctx context.Context) (err error) {
	if e.dir == "" {
		return nil
	}
	client, err := e.connect()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Disconnect(ctx)) }()
	for _, name := range collections {
		err := client.Database(e.Database).CreateCollection(ctx, name)
		var failed mongo.CommandError
		if err != nil && !(errors.As(err, &failed) && failed.Name == "NamespaceExists") {
			return err
		}
	}
	return indexEmbedded(ctx, e.dir, e.Database)
}

// empty deletes all sessions.
func (e *Env) empty(ctx context.Context) (err error) {
	if e.dialer != nil {
		return nil // in memory a document costs nothing
	}
	client, err := e.connect()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Disconnect(ctx)) }()
	for _, name := range collections {
		if _, err := client.Database(e.Database).Collection(name).DeleteMany(ctx, struct{}{}); err != nil {
			return err
		}
	}
	return nil
}
