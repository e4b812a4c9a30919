package mongotest_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func TestContainer(t *testing.T) {
	t.Parallel()
	pool := daemon(t)
	const image = "mongostore/ferretdb:selftest"
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell to run image.sh with: ", err)
	}
	removeImage(t, pool, image)
	if out, err := exec.CommandContext(t.Context(), shell, "image.sh", image).CombinedOutput(); err != nil {
		t.Fatalf("image.sh: %v\n%s", err, out)
	}
	env := "MONGOSTORE_TEST_IMAGE=" + image
	description := "FerretDB v1.24.0 (docker image " + image + "), compatible with MongoDB 7.0.42, standalone"

	t.Run("input ends", func(t *testing.T) {
		t.Parallel()
		p := start(t, env, "MONGOSTORE_TEST=docker")
		id := containerID(t, pool, p.uri)
		checkServes(t, p.uri)
		if p.description != description {
			t.Errorf("description %q, want %q", p.description, description)
		}
		p.closeInput(t)
		p.checkEnds(t)
		checkGone(t, pool, id)
	})
	t.Run("parent is killed", func(t *testing.T) {
		t.Parallel()
		p := startWith(t, os.Args[0], nil, childVariable+"="+command, env)
		id := containerID(t, pool, p.uri)
		p.killParent(t)
		checkGone(t, pool, id)
	})
	t.Run("parent with the shared server is killed", func(t *testing.T) {
		t.Parallel()
		p := startWith(t, os.Args[0], nil, childVariable+"="+shared, env)
		id := containerID(t, pool, p.uri)
		if p.description != description {
			t.Errorf("description %q, want %q", p.description, description)
		}
		p.killParent(t)
		checkGone(t, pool, id)
	})
	t.Run("container ends before", func(t *testing.T) {
		t.Parallel()
		p := start(t, env)
		id := containerID(t, pool, p.uri)
		if err := pool.Client.StopContainer(id, 0); err != nil {
			t.Fatal(err)
		}
		p.closeInput(t)
		p.checkEnds(t)
		checkGone(t, pool, id)
	})
}

// TestReplicaSet uses an image that runs something called mongod, since not
// every machine can have the real one.
func TestReplicaSet(t *testing.T) {
	t.Parallel()
	pool := daemon(t)
	const image = "mongostore/mongod:selftest"
	buildImage(t, pool, image, "./testdata/mongod", `CMD ["mongod"]`)

	p := start(t, "MONGOSTORE_TEST_IMAGE="+image)
	if want := "MongoDB 8.0.4 (docker image " + image + "), replica set rs0"; p.description != want {
		t.Errorf("description %q, want %q", p.description, want)
	}
	client, err := mongo.Connect(options.Client().ApplyURI(p.uri).SetTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) }()
	// The server accepts retryable writes only.
	if _, err := client.Database("test").Collection("test").InsertOne(t.Context(), bson.D{}); err != nil {
		t.Error(err)
	}
	p.closeInput(t)
	p.checkEnds(t)
}

func TestContainerThatEndsAtOnce(t *testing.T) {
	t.Parallel()
	pool := daemon(t)
	const image = "mongostore/broken:selftest"
	buildImage(t, pool, image, "./testdata/mongod", `ENTRYPOINT ["mongod", "-nonsense"]`)
	began := time.Now()
	checkFails(t, []string{"MONGOSTORE_TEST_IMAGE=" + image}, "docker image "+image, "the container ended") // and, if it was caught in time, with which exit code
	if took := time.Since(began); took > patience/2 {
		t.Errorf("that took %v", took)
	}
}

// daemon returns a connection to the Docker daemon. Without one, the test is
// skipped.
func daemon(t *testing.T) *dockertest.Pool {
	t.Helper()
	pool, err := dockertest.NewPool("")
	if err != nil {
		t.Skip("no Docker daemon: ", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := pool.Client.PingWithContext(ctx); err != nil {
		t.Skip("no Docker daemon: ", err)
	}
	return pool
}

// buildImage builds an image of a command of this module, called mongod in it.
func buildImage(t *testing.T, pool *dockertest.Pool, image, pkg, start string) {
	t.Helper()
	info, err := pool.Client.Version()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "mongod"), pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+info.Get("Arch"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dockerfile := "FROM scratch\nCOPY mongod /bin/\n" + start + "\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	removeImage(t, pool, image)
	err = pool.Client.BuildImage(docker.BuildImageOptions{
		Name: image, ContextDir: dir, OutputStream: t.Output(), Context: t.Context(),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// removeImage removes the image when the test ends.
func removeImage(t *testing.T, pool *dockertest.Pool, image string) {
	t.Helper()
	t.Cleanup(func() {
		err := pool.Client.RemoveImage(image)
		if err != nil && !errors.Is(err, docker.ErrNoSuchImage) {
			t.Error(err)
		}
	})
}

// containerID finds the container by the port that is in the URI.
func containerID(t *testing.T, pool *dockertest.Pool, uri string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	containers, err := pool.Client.ListContainers(docker.ListContainersOptions{
		Context: t.Context(),
		Filters: map[string][]string{"publish": {u.Port()}},
	})
	if err != nil || len(containers) != 1 {
		t.Fatalf("%d containers at port %s (error %v)", len(containers), u.Port(), err)
	}
	return containers[0].ID
}

// checkGone waits until the container is removed.
func checkGone(t *testing.T, pool *dockertest.Pool, id string) {
	t.Helper()
	eventually(t, func() error {
		_, err := pool.Client.InspectContainerWithContext(id, t.Context())
		var gone *docker.NoSuchContainer
		if errors.As(err, &gone) {
			return nil
		}
		return fmt.Errorf("container %s is there (error %v)", id, err)
	})
}
