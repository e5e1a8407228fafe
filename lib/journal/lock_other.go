//go:build !unix || solaris || illumos || aix

package journal

import (
	"errors"
	"os"
)

func tryLock(*os.File) (bool, error) {
	return false, errors.New("this system has no flock, without which two processes could change a folder at once")
}
