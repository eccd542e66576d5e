import com.pixelmed.validate.DicomSRValidator;
import java.lang.reflect.Field;
import javax.xml.transform.Source;
import javax.xml.transform.Transformer;
import javax.xml.transform.URIResolver;

/**
 * Runs pixelmed's DicomSRValidator on many reports in one virtual machine, with its options -checktemplateid and
 * -checkcontentitemorder.
 *
 * Its style sheet opens the table of context groups for every code of a report. The resolver that it has does not name
 * what it opens, and what has no name is not kept: 664 kB are parsed for each code. Here the table has its name.
 */
public class DicomSRValidators {
	public static void main(String[] files) throws Exception {
		DicomSRValidator validator = new DicomSRValidator();
		Field field = DicomSRValidator.class.getDeclaredField("transformerPass1");
		field.setAccessible(true);
		Transformer first = (Transformer) field.get(validator);
		URIResolver own = first.getURIResolver();
		first.setURIResolver((href, base) -> {
			Source source = own.resolve(href, base);
			if (source != null) {
				source.setSystemId(href);
			}
			return source;
		});
		for (String file : files) {
			System.out.println("== " + file);
			System.out.println(validator.validate(file, false, true, false, true, true));
		}
	}
}
