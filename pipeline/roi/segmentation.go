package roi

import (
	"context"
	"errors"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
)

// isSegmentation tells the objects that hold voxels from those that hold contours.
func isSegmentation(d *dicom.DataSet) bool { return false }

// A segment is where the voxels of a region of a Segmentation are.
type segment struct{}

func segments(f *dicom.File) ([]Region, error) { return nil, errors.ErrUnsupported }

func segmented(d *dicom.DataSet) ([]Reference, error) { return nil, errors.ErrUnsupported }

func (s *segment) rasterise(ctx context.Context, g voxel.Geometry, rule voxel.Rule) (*voxel.Mask, []string, error) {
	return nil, nil, errors.ErrUnsupported
}

func (s *segment) bounds(g voxel.Geometry) voxel.Box { return voxel.Box{} }
