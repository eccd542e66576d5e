package dicom

import (
	"slices"
	"time"
	"unicode/utf8"
)

// The attributes of patient and study that every object of a study has in common, by the tables of PS3.3. An archive takes one
// that differs for another patient or study, or overwrites it.
var (
	// Type 2: there, even if empty.
	requiredOfEntities = []Tag{
		PatientName, PatientID, PatientBirthDate, PatientSex, // C.7.1.1
		StudyInstanceUID, StudyDate, StudyTime, StudyID, AccessionNumber, ReferringPhysicianName, // C.7.2.1
	}
	// Type 3, or with a condition that the images have answered.
	optionalOfEntities = []Tag{
		// Patient, C.7.1.1.
		IssuerOfPatientID, TypeOfPatientID, IssuerOfPatientIDQualifiersSequence,
		0x00100026, // SourcePatientGroupIdentificationSequence
		0x00100027, // GroupOfPatientsIdentificationSequence
		PatientBirthTime,
		0x00100033, // PatientBirthDateInAlternativeCalendar
		0x00100034, // PatientDeathDateInAlternativeCalendar
		0x00100035, // PatientAlternativeCalendar
		QualityControlSubject, OtherPatientIDs, OtherPatientNames, OtherPatientIDsSequence, EthnicGroup, PatientComments,
		ReferencedPatientSequence, PatientSpeciesDescription,
		0x00102202, // PatientSpeciesCodeSequence
		PatientBreedDescription,
		0x00102293, // PatientBreedCodeSequence
		0x00102294, // BreedRegistrationSequence
		ResponsiblePerson,
		0x00102298, // ResponsiblePersonRole
		ResponsibleOrganization,
		// Clinical Trial Subject, C.7.1.3.
		ClinicalTrialSponsorName, ClinicalTrialProtocolID, ClinicalTrialProtocolName,
		0x00120022, // IssuerOfClinicalTrialProtocolID
		0x00120023, // OtherClinicalTrialProtocolIDsSequence
		ClinicalTrialSiteID, ClinicalTrialSiteName,
		0x00120032, // IssuerOfClinicalTrialSiteID
		ClinicalTrialSubjectID,
		0x00120041, // IssuerOfClinicalTrialSubjectID
		ClinicalTrialSubjectReadingID,
		0x00120043, // IssuerOfClinicalTrialSubjectReadingID
		0x00120081, // ClinicalTrialProtocolEthicsCommitteeName
		0x00120082, // ClinicalTrialProtocolEthicsCommitteeApprovalNumber
		// General Study, C.7.2.1.
		IssuerOfAccessionNumberSequence,
		0x00080096, // ReferringPhysicianIdentificationSequence
		StudyDescription, ProcedureCodeSequence, PhysiciansOfRecord,
		0x00081049, // PhysiciansOfRecordIdentificationSequence
		NameOfPhysiciansReadingStudy,
		0x00081062, // PhysiciansReadingStudyIdentificationSequence
		0x00321034, // RequestingServiceCodeSequence
		0x00401012, // ReasonForPerformedProcedureCodeSequence
		// Patient Study, C.7.2.2.
		0x00081080, // AdmittingDiagnosesDescription
		0x00081084, // AdmittingDiagnosesCodeSequence
		PatientAge, PatientSize, PatientWeight,
		0x00101021, // PatientSizeCodeSequence
		0x00101022, // PatientBodyMassIndex
		MedicalAlerts, Allergies, Occupation, SmokingStatus, AdditionalPatientHistory, PregnancyStatus,
		0x001021D0, // LastMenstrualDate
		0x00102203, // PatientSexNeutered
		AdmissionID,
		0x00380014, // IssuerOfAdmissionIDSequence
		0x00380060, // ServiceEpisodeID
		0x00380062, // ServiceEpisodeDescription
		0x00380064, // IssuerOfServiceEpisodeIDSequence
		PatientState,
		0x00321066, // ReasonForVisit
		0x00321067, // ReasonForVisitCodeSequence
		// Clinical Trial Study, C.7.2.3.
		ClinicalTrialTimePointID, ClinicalTrialTimePointDescription,
		0x00120052, // LongitudinalTemporalOffsetFromEvent
		0x00120053, // LongitudinalTemporalEventType
		0x00120083, // ConsentForClinicalTrialUseSequence
		// Of SOP Common, C.12.1: it rules the dates and times above.
		TimezoneOffsetFromUTC,
	}
)

// EntityAttributes are the attributes of patient and study that [DataSet.CopyEntities] copies.
func EntityAttributes() []Tag { return slices.Concat(requiredOfEntities, optionalOfEntities) }

// CopyEntities makes an object one of the patient and study that source, an image, belongs to: Patient, Clinical Trial
// Subject, General Study, Patient Study and Clinical Trial Study modules, as they are there, faults and all, but for a Study
// ID that is too long.
func (d *DataSet) CopyEntities(source *DataSet) {
	for _, t := range requiredOfEntities {
		d.SetString(t)
	}
	d.Copy(source, requiredOfEntities...)
	d.Copy(source, optionalOfEntities...)
	// Whoever made the images may have written a Study ID that no SH can hold. An object with it is invalid, one with a part of
	// it says that the study is another one; that it is not known may be said, it is type 2. What says who the patient is stays.
	if utf8.RuneCountInString(d.String(StudyID)) > vrs[SH].max {
		d.SetString(StudyID)
	}
	// Patient Identity Removed is nothing without the method, which is type 1C then: PS3.3 C.7.1.1. Images exist that have it so.
	if source.String(DeidentificationMethod) != "" || len(source.Seq(DeidentificationMethodCodeSequence)) > 0 {
		d.Copy(source, PatientIdentityRemoved, DeidentificationMethod, DeidentificationMethodCodeSequence)
	}
}

// Zone is that of the dates and times of the data set, Timezone Offset From UTC (0008,0201): PS3.3 C.12.1.1.8. ok is false where
// it does not say.
func (d *DataSet) Zone() (zone *time.Location, ok bool) {
	t, err := time.Parse("-0700", d.String(TimezoneOffsetFromUTC))
	if err != nil {
		return nil, false
	}
	_, east := t.Zone()
	return time.FixedZone("", east), true
}

// InZone is t as the dates and times of the data set show it; where it names no zone, as t does.
func (d *DataSet) InZone(t time.Time) time.Time {
	if zone, ok := d.Zone(); ok {
		return t.In(zone)
	}
	return t
}
